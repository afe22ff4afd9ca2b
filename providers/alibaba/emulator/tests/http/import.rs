//! Tests ImportImage: its own checks, its findings in objects, idempotency, and duration.

use std::time::Duration;

use build_image_emulator_alibaba::{Running, Stored};

use crate::client::{Call, Client, emulator};
use crate::disks;
use crate::multipart;

const GIB: u64 = 1 << 30;

/// Parameters of an import of `object` from bucket `demo`.
pub(crate) fn params<'a>(
    name: &'a str,
    object: &'a str,
    format: &'a str,
) -> Vec<(&'a str, &'a str)> {
    vec![
        ("ImageName", name),
        ("DiskDeviceMapping.1.OSSBucket", "demo"),
        ("DiskDeviceMapping.1.OSSObject", object),
        ("DiskDeviceMapping.1.Format", format),
        ("DiskDeviceMapping.1.DiskImageSize", "1"),
    ]
}

/// Imports and returns image id and task id.
pub(crate) fn import(client: &Client, params: &[(&str, &str)]) -> (String, String) {
    let reply = client.ecs("ImportImage", params);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let text = |name: &str| reply.json()[name].as_str().unwrap().to_owned();
    (text("ImageId"), text("TaskId"))
}

pub(crate) fn task(client: &Client, id: &str) -> serde_json::Value {
    client.ecs("DescribeTaskAttribute", &[("TaskId", id)]).json()
}

pub(crate) fn images(client: &Client, more: &[(&str, &str)]) -> serde_json::Value {
    let all = "Creating,Waiting,Available,UnAvailable,CreateFailed,Deprecated";
    let mut params = vec![("Status", all)];
    params.extend_from_slice(more);
    client.ecs("DescribeImages", &params).json()["Images"]["Image"].clone()
}

fn prepared() -> (Running, Client) {
    let running = emulator(|_| {});
    let client = Client::of(&running);
    client.put("disk.raw", &disks::raw(1 << 20));
    (running, client)
}

#[test]
fn an_import_makes_an_image_with_everything_asked_for() {
    let (_running, client) = prepared();
    let mut call = params("img", "disk.raw", "RAW");
    call.extend([
        ("Architecture", "arm64"),
        ("Features.NvmeSupport", "supported"),
        ("Features.ImdsSupport", "v2"),
        ("Description", "a disk"),
        ("Tag.1.Key", "k"),
        ("Tag.1.Value", "v"),
    ]);
    let (image, id) = import(&client, &call);
    let done = task(&client, &id);
    assert_eq!((&done["TaskStatus"], &done["TaskProcess"]), (&"Finished".into(), &"100%".into()));
    assert_eq!((&done["SuccessCount"], &done["FailedCount"]), (&1.into(), &0.into()));
    assert_eq!(done["SupportCancel"], "false");
    let found = &images(&client, &[("ImageId", &image)])[0];
    assert_eq!(found["Status"], "Available");
    assert_eq!((&found["BootMode"], &found["Platform"]), (&"UEFI".into(), &"Others Linux".into()));
    assert_eq!(found["Features"]["NvmeSupport"], "supported");
    assert_eq!(found["Features"]["ImdsSupport"], "v2");
    assert_eq!(found["Tags"]["Tag"][0]["TagValue"], "v");
    let disk = &found["DiskDeviceMappings"]["DiskDeviceMapping"][0];
    assert_eq!((&disk["Size"], &disk["Format"]), (&"1".into(), &"RAW".into()));
    assert_eq!(disk["ImportOSSObject"], "disk.raw");
    let ids = format!("[{}]", disk["SnapshotId"]);
    let snapshots = client.ecs("DescribeSnapshots", &[("SnapshotIds", &ids)]).json();
    assert_eq!(snapshots["Snapshots"]["Snapshot"][0]["Status"], "accomplished");
}

#[test]
fn an_image_outlives_its_object_and_can_be_taken_out() {
    let (running, client) = prepared();
    let (a, b) = (disks::raw(200 << 10), disks::raw(150 << 10));
    let upload = multipart::initiate(&client, "parts");
    multipart::part(&client, "parts", &upload, "2", &b);
    multipart::part(&client, "parts", &upload, "1", &a);
    assert_eq!(multipart::complete_all(&client, "parts", &upload).status, 200);
    let (image, id) = import(&client, &params("img", "parts", "RAW"));
    assert_eq!(task(&client, &id)["TaskStatus"], "Finished");
    let whole = [a, b].concat();
    assert_eq!(client.get("parts").body, whole);
    let delete = Call { method: "DELETE", bucket: "demo", key: "parts", ..Call::default() };
    assert_eq!(client.oss(&delete).status, 204);
    let stored = Stored::open(running.state_dir()).unwrap();
    assert_eq!(stored.images()[0].name, "img");
    let directory = tempfile::tempdir().unwrap();
    let dest = directory.path().join("disk.raw");
    stored.export(&image, &dest).unwrap();
    assert_eq!(std::fs::read(&dest).unwrap(), whole);
    assert!(stored.export("m-none", &dest).unwrap_err().to_string().contains("m-none"));
}

#[test]
fn unusable_disks_fail_in_the_task_with_a_reason() {
    let (running, client) = prepared();
    client.put("small.qcow2", &disks::qcow2(1 << 20, None));
    client.put("large.qcow2", &disks::qcow2(2 * GIB, None));
    client.put("child.qcow2", &disks::qcow2(1 << 20, Some("base.qcow2")));
    client.put("cut.qcow2", &disks::qcow2(1 << 20, None)[..70_000]);
    let good = import(&client, &params("good", "small.qcow2", "QCOW2"));
    assert_eq!(task(&client, &good.1)["TaskStatus"], "Finished");
    for (name, object, format, code) in [
        ("a1", "disk.raw", "QCOW2", "InvalidImageFormat.Malformed"),
        ("a2", "small.qcow2", "RAW", "InvalidImageFormat.Malformed"),
        ("a3", "large.qcow2", "QCOW2", "InvalidImageSize"),
        ("a4", "child.qcow2", "", "InvalidImageFormat.Malformed"),
        ("a5", "cut.qcow2", "QCOW2", "ImportImageFailed"),
    ] {
        let (image, id) = import(&client, &params(name, object, format));
        let failed = task(&client, &id);
        assert_eq!(failed["TaskStatus"], "Failed", "{object} as {format}");
        assert_eq!(failed["FailedCount"], 1);
        let progress = &failed["OperationProgressSet"]["OperationProgress"][0];
        assert_eq!(progress["OperationStatus"], "Failed");
        assert_eq!(progress["ErrorCode"], code, "{object} as {format}: {progress}");
        assert!(progress["ErrorMsg"].as_str().is_some_and(|text| !text.is_empty()));
        assert_eq!(images(&client, &[("ImageId", &image)])[0]["Status"], "CreateFailed");
        assert_eq!(client.ecs("DeleteImage", &[("ImageId", &image)]).status, 200);
    }
    assert_eq!(running.status()["snapshots"], 1);
}

#[test]
fn calls_are_refused_with_the_vendors_codes() {
    let (_running, client) = prepared();
    client.put("empty.raw", b"");
    client.put("disk.tar.gz", b"x");
    import(&client, &params("taken", "disk.raw", "RAW"));
    let error_of = |name: &str, value: &str| {
        let mut call = params("img", "disk.raw", "RAW");
        call.retain(|(key, _)| *key != name);
        call.push((name, value));
        client.ecs("ImportImage", &call).error()
    };
    let disk = |name: &str| format!("DiskDeviceMapping.1.{name}");
    for (name, value, status, code) in [
        ("ImageName", "1x", 400, "InvalidImageName.Malformed"),
        ("ImageName", "taken", 400, "InvalidImageName.Duplicated"),
        ("Description", "http://x", 400, "InvalidDescription.Malformed"),
        ("Architecture", "mips", 400, "InvalidArchitecture.Malformed"),
        ("OSType", "bsd", 400, "InvalidOSType.Malformed"),
        ("Platform", "BeOS", 400, "InvalidPlatform.Malformed"),
        ("BootMode", "UEFI-Preferred", 400, "InvalidBootMode.Malformed"),
        ("LicenseType", "X", 400, "InvalidLicenseType.NotSupported"),
        ("DetectionStrategy", "X", 400, "InvalidParameter.DetectionStrategy"),
        ("Features.ImdsSupport", "v3", 400, "InvalidParameter.FeaturesImdsSupport"),
        ("Tag.1.Key", "acs:x", 400, "InvalidTagKey.Malformed"),
        ("RoleName", "Nobody", 403, "NoSetRoletoECSServiceAcount"),
        ("RegionId", "cn-nowhere", 404, "InvalidRegionId.NotFound"),
        ("RegionId", "cn-beijing", 400, "InvalidOSSBucket.NotMatched"),
        ("RegionId", "", 400, "MissingParameter"),
        (&disk("OSSBucket"), "none", 400, "InvalidOSSBucket.NotFound"),
        (&disk("OSSBucket"), "A", 400, "InvalidOSSBucket.Malformed"),
        (&disk("OSSObject"), "none", 400, "InvalidOSSObject.NotFound"),
        (&disk("OSSObject"), "empty.raw", 400, "InvalidOSSObject.Size"),
        (&disk("OSSObject"), "disk.tar.gz", 400, "UnsupportedSuffix.OSSObject"),
        (&disk("OSSObject"), "", 400, "MissingParameter"),
        (&disk("Format"), "VMDK", 400, "InvalidImageFormat.Malformed"),
        (&disk("DiskImageSize"), "0", 400, "InvalidImageSize"),
        (&disk("DiskImageSize"), "2049", 400, "InvalidImageSize"),
        ("DryRun", "True", 400, "DryRunOperation"),
    ] {
        assert_eq!(error_of(name, value), (status, code.to_owned()), "{name}={value}");
    }
    let none = client.ecs("ImportImage", &[("ImageName", "img")]);
    assert_eq!(none.error(), (403, "MissingParameter.DiskDeviceMapping".to_owned()));
    assert_eq!(images(&client, &[]).as_array().unwrap().len(), 1);
}

#[test]
fn objects_ecs_cannot_read_are_refused() {
    let (_running, client) = prepared();
    for (key, header, value, code) in [
        ("a", "x-oss-storage-class", "Archive", "InvalidOSSObject.NeedRestore"),
        ("b", "x-oss-server-side-encryption", "AES256", "InvalidOSSBucket.EncryptUnsupported"),
    ] {
        let headers = [(header, value)];
        let put = Call {
            method: "PUT",
            bucket: "demo",
            key,
            headers: &headers,
            body: b"x",
            ..Call::default()
        };
        assert_eq!(client.oss(&put).status, 200);
        assert_eq!(client.ecs("ImportImage", &params("img", key, "RAW")).error().1, code);
    }
    let running = emulator(|config| config.import_role = false);
    let client = Client::of(&running);
    let reply = client.ecs("ImportImage", &params("img", "disk.raw", "RAW"));
    assert_eq!(reply.error(), (403, "NoSetRoletoECSServiceAcount".to_owned()));
}

#[test]
fn a_client_token_stands_for_one_import() {
    let (running, client) = prepared();
    let mut call = params("img", "disk.raw", "RAW");
    call.push(("ClientToken", "token-1"));
    let first = import(&client, &call);
    assert_eq!(import(&client, &call), first);
    call[0].1 = "other";
    let error = client.ecs("ImportImage", &call).error();
    assert_eq!(error, (400, "IdempotentParameterMismatch".to_owned()));
    assert_eq!(running.status()["images"], 1);
}

#[test]
fn an_import_that_takes_time_can_be_watched_and_cancelled() {
    let running = emulator(|config| config.import_time = Duration::from_secs(86_400));
    let client = Client::of(&running);
    client.put("disk.raw", &disks::raw(1 << 20));
    let (image, id) = import(&client, &params("img", "disk.raw", "RAW"));
    let begun = task(&client, &id);
    assert_eq!((&begun["TaskStatus"], &begun["TaskProcess"]), (&"Waiting".into(), &"0%".into()));
    assert_eq!(begun["SupportCancel"], "true");
    let found = &images(&client, &[])[0];
    assert_eq!((&found["Status"], &found["Progress"]), (&"Creating".into(), &"0%".into()));
    let listed = client.ecs("DescribeImages", &[]).json();
    assert_eq!(listed["TotalCount"], 0, "only available images are shown unless asked");
    let error = client.ecs("DeleteImage", &[("ImageId", &image)]).error();
    assert_eq!(error, (403, "ImageIsImporting".to_owned()));
    assert_eq!(client.ecs("CancelTask", &[("TaskId", &id)]).status, 200);
    assert_eq!(task(&client, &id)["TaskStatus"], "Deleted");
    let error = client.ecs("CancelTask", &[("TaskId", &id)]).error();
    assert_eq!(error, (403, "IncorrectTaskStatus".to_owned()));
    let status = running.status();
    assert_eq!((&status["images"], &status["snapshots"]), (&0.into(), &0.into()));
    let error = client.ecs("CancelTask", &[("TaskId", "t-none")]).error();
    assert_eq!(error, (404, "InvalidTaskId.NotFound".to_owned()));
}
