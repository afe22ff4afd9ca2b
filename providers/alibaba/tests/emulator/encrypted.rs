//! Tests images that are encrypted with a key: what was imported is copied with it, and removed.

use build_image_emulator_alibaba::{Config, Running};
use build_image_plugin_api::{
    Event, Provider, Resource,
    document::{DiscardReason, DiscardRequest, Severity},
};
use serde_json::{Value, json};

use crate::{
    ecs::{ecs, images},
    harness::{Run, calls, count, emulator, emulator_with, host},
};

const HERE: &str = "cn-hangzhou";
const KEY: (&str, &str) = ("ALIBABA_IMAGE_KEY", "key-1");

fn key() -> (&'static str, Value) {
    (KEY.0, json!(KEY.1))
}

fn snapshots(emulator: &Running, region: &str) -> Vec<(String, String)> {
    let found = ecs(emulator, "DescribeSnapshots", &[("RegionId", region)]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = found["Snapshots"]["Snapshot"].as_array().unwrap().iter();
    all.map(|one| (text(&one["SnapshotId"]), text(&one["KMSKeyId"]))).collect()
}

/// Removes resources as the host does: the last one first.
fn discard(run: &Run, reason: DiscardReason, is_removed: impl Fn(&Resource) -> bool) {
    let mut resources = run.host.resources();
    resources.retain(is_removed);
    resources.reverse();
    let request = DiscardRequest::new(reason, resources);
    let discarded = run.provider.discard(&run.context, &request).unwrap();
    assert!(discarded.remaining.is_empty(), "{discarded:?}");
}

#[test]
fn the_image_and_its_copies_are_encrypted_and_what_was_imported_is_removed() {
    let emulator = emulator();
    let settings = [
        key(),
        ("ALIBABA_IMAGE_COPY_REGIONS", json!(["cn-shanghai"])),
        ("ALIBABA_IMAGE_COPY_KEYS", json!(["cn-shanghai=key-2"])),
        ("ALIBABA_NVME_SUPPORT", json!("supported")),
        ("ALIBABA_IMAGE_FAMILY", json!("web")),
        ("ALIBABA_RESOURCE_GROUP_ID", json!("rg-1")),
        ("ALIBABA_IMAGE_SHARE_ACCOUNT_IDS", json!([2_000_000_000_000_001_u64])),
        ("ALIBABA_DETECTION_STRATEGY", json!("Standard")),
    ];
    let faults = json!([{"operation": "ImportImage",
        "action": {"image_check": [{"name": "GUESTOS.Virtio", "value": "yes"}]}}]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let run = Run::new(&emulator, host(), &settings);
    let registered = run.register(run.upload().unwrap()).unwrap();
    assert_eq!(registered.facts["image_check"][0]["name"], "GUESTOS.Virtio");
    assert_eq!(images(&emulator, HERE).len(), 2, "what was imported is there until the release");
    let resources = run.host.resources();
    let plain: Vec<&Resource> =
        resources.iter().filter(|one| one.kind == "image" && !one.deliverable).collect();
    assert!(plain.len() == 1 && plain[0].name.contains("-plain-"), "{resources:#?}");
    discard(&run, DiscardReason::Done, |one| !one.deliverable);

    for (image, (region, key)) in
        registered.images.iter().zip([(HERE, "key-1"), ("cn-shanghai", "key-2")])
    {
        let found = images(&emulator, region);
        assert_eq!((found.len(), &found[0]["ImageId"]), (1, &json!(image.id)), "{region}");
        let found = &found[0];
        assert_eq!(found["ImageName"], "F5-BIGIP-17-1-0-BYOL-ltm-1slot");
        assert_eq!(
            (&found["ImageFamily"], &found["ResourceGroupId"]),
            (&json!("web"), &json!("rg-1"))
        );
        assert_eq!(found["Features"]["NvmeSupport"], "supported");
        let tags = found["Tags"]["Tag"].as_array().unwrap();
        let keys: Vec<&str> = tags.iter().map(|tag| tag["TagKey"].as_str().unwrap()).collect();
        let marks = ["build-image-copy-of", "build-image-run", "platform"];
        assert_eq!(keys, marks[usize::from(region == HERE)..], "{region}");
        let all = snapshots(&emulator, region);
        assert_eq!((all.len(), all[0].1.as_str()), (1, key), "{region}");
        let shared = &registered.facts["regions"][region]["shared_account_ids"];
        assert_eq!(shared, &json!(["2000000000000001"]));
    }
}

#[test]
fn a_refused_key_ends_the_build_with_what_to_do_and_leaves_nothing() {
    for (status, code, kind, word) in [
        (404, "InvalidParameter.KMSKeyId.NotFound", "not_found", "ALIBABA_IMAGE_KEY"),
        (403, "InvalidParameter.KMSKeyId.CMKNotEnabled", "config", "enable the key"),
        (403, "InvalidParameter.KMSKeyId.CMKUnauthorized", "auth", "grant ECS"),
        (403, "InvalidParameter.KMSKeyId.KMSUnauthorized", "auth", "grant ECS"),
        (400, "InvalidParameter.KmsNotEnabled", "auth", "activate KMS"),
        (403, "QuotaExceed.Image", "quota", "delete old images"),
    ] {
        let emulator = emulator();
        let faults =
            json!([{"operation": "CopyImage", "action": {"status": status, "code": code}}]);
        emulator.set_faults(&faults.to_string()).unwrap();
        let run = Run::new(&emulator, host(), &[key()]);
        let error = run.register(run.upload().unwrap()).unwrap_err();
        assert_eq!(error.kind.code(), kind, "{error:?}");
        assert!(error.hint.as_ref().is_some_and(|hint| hint.contains(word)), "{error:?}");
        discard(&run, DiscardReason::default(), |_| true);
        let left = ["images", "snapshots", "objects"].map(|what| count(&emulator, what));
        assert_eq!(left, [0, 0, 0], "{code}");
    }
}

#[test]
fn a_resumed_run_keeps_its_encrypted_image_and_refuses_another_key() {
    let emulator = emulator();
    let run = Run::new(&emulator, host(), &[key()]);
    let uploaded = run.upload().unwrap();
    let first = run.register(uploaded.clone()).unwrap();
    let again = || host().with_checkpoints(run.host.checkpoints());
    let other = Run::new(&emulator, again(), &[("ALIBABA_IMAGE_KEY", json!("key-2"))]);
    let report = other.check();
    let errors: Vec<&str> = report
        .findings
        .iter()
        .filter(|one| one.severity == Severity::Error)
        .map(|one| one.message.as_str())
        .collect();
    assert!(errors.len() == 1 && errors[0].contains("`key-1`"), "{errors:?}");
    let same = Run::new(&emulator, again(), &[key()]);
    let report = same.check();
    assert!(report.findings.iter().all(|one| one.severity != Severity::Error), "{report:#?}");
    let second = same.register(uploaded).unwrap();
    assert_eq!(first.images, second.images);
    assert_eq!(count(&emulator, "images"), 2);
}

#[test]
fn a_check_tries_the_key_out_with_an_image_of_the_account() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let emulator = emulator_with(Config { log_requests: Some(log.clone()), ..Config::default() });
    let settings = [
        key(),
        ("ALIBABA_IMAGE_COPY_REGIONS", json!(["cn-shanghai"])),
        ("ALIBABA_IMAGE_COPY_KEYS", json!(["cn-shanghai=key-2"])),
    ];
    let code = "InvalidParameter.KMSKeyId.CMKNotEnabled";
    let faults = json!([{"operation": "CopyImage", "action": {"status": 403, "code": code}}]);
    let errors = |run: &Run| -> Vec<String> {
        let findings = run.check().findings.into_iter();
        let errors = findings.filter(|one| one.severity == Severity::Error);
        errors.map(|one| format!("{}: {}", one.subject, one.message)).collect()
    };
    // Without any image of a build there is nothing to try it with.
    emulator.set_faults(&faults.to_string()).unwrap();
    assert!(errors(&Run::new(&emulator, host(), &settings)).is_empty());
    assert_eq!(calls(&log, "CopyImage"), 0);
    emulator.set_faults("[]").unwrap();
    let mut earlier = Run::new(&emulator, host(), &[]).called("run-0");
    earlier.build.image_name.push_str("-0");
    earlier.register(earlier.upload().unwrap()).unwrap();
    let before = count(&emulator, "images");
    assert!(errors(&Run::new(&emulator, host(), &settings)).is_empty());
    assert_eq!(calls(&log, "CopyImage"), 2);
    emulator.set_faults(&faults.to_string()).unwrap();
    let found = errors(&Run::new(&emulator, host(), &settings));
    assert!(found.len() == 2 && found.iter().all(|one| one.contains("not enabled")), "{found:?}");
    // Without keys the same image is copied as it is.
    let busy = json!({"status": 403, "code": "OperationDenied.ImageCopying"});
    let faults = json!([{"operation": "CopyImage", "action": busy}]);
    emulator.set_faults(&faults.to_string()).unwrap();
    assert!(errors(&Run::new(&emulator, host(), &settings)).is_empty());
    assert_eq!(count(&emulator, "images"), before);
}

#[test]
fn a_copy_that_another_one_holds_up_is_requested_again() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let emulator = emulator_with(Config { log_requests: Some(log.clone()), ..Config::default() });
    let busy = json!({"status": 400, "code": "OperationDenied.ImageCopyConflict"});
    let faults = json!([{"operation": "CopyImage", "nth": 1, "count": 2, "action": busy}]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let settings = [key(), ("ALIBABA_IMAGE_IMPORT_MONITOR_RETRY_DELAY", json!(1))];
    let run = Run::new(&emulator, host(), &settings);
    run.register(run.upload().unwrap()).unwrap();
    assert_eq!((calls(&log, "CopyImage"), count(&emulator, "images")), (3, 2));
    let planned = run.host.events().into_iter().filter(
        |event| matches!(event, Event::ResourcePlanned { resource } if resource.kind == "image"),
    );
    assert!(planned.count() >= 2);
}
