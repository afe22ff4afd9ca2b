//! Builds images for moto behind the strict front, and reads with boto3 what the account has then.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use crate::harness::{Aws, AwsAccount, Iso, Run, Sandbox, Turn, needs_qemu, tool};

/// Arguments of a build of `disk.raw`.
pub(crate) const BUILD: [&str; 6] = ["--disk", "disk.raw", "-c", "config.yml", "-p", "aws"];
/// The region of the tests, and that of their copies.
pub(crate) const HOME: &str = "us-east-1";
const AWAY: &str = "eu-west-1";
/// Bytes of a block.
pub(crate) const BLOCK: u64 = 512 << 10;

/// A sandbox with a disk of 16 MiB, 3 of them data, and a configuration file for the builder of an account.
pub(crate) fn sandbox(account: &AwsAccount, more: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 16, 3);
    sandbox.write("config.yml", &account.config(more));
    sandbox
}

/// Runs a build under a name.
pub(crate) fn build(sandbox: &Sandbox, name: &str, more: &[&str]) -> Run {
    sandbox.run(&[&BUILD[..], &["--cloud-image-name", name], more].concat())
}

/// The image of a run.
pub(crate) fn id_of(run: &Run) -> String {
    run.member("image_id").as_str().unwrap().to_owned()
}

/// An available image of one block, as another program registers it; its id.
pub(crate) fn foreign(account: &AwsAccount, name: &str) -> String {
    let made = account.control("POST", "images", json!({"name": name, "tags": {"of": "others"}}));
    made["ImageId"].as_str().unwrap().to_owned()
}

/// How often each block was put, from the requests that were answered.
pub(crate) fn puts(account: &AwsAccount) -> BTreeMap<u64, u64> {
    let mut numbers = BTreeMap::new();
    for request in account.requests() {
        if request["operation"] == "PutSnapshotBlock" && request["status"] == 201 {
            *numbers.entry(request["block"].as_u64().unwrap()).or_default() += 1;
        }
    }
    numbers
}

/// Checks the members of an object.
#[track_caller]
fn has(object: &Value, members: &[(&str, Value)]) {
    for (pointer, value) in members {
        assert_eq!(object.pointer(pointer), Some(value), "{pointer} of {object:#}");
    }
}

/// Tags as a map.
fn tags(object: &Value) -> BTreeMap<&str, &str> {
    let tags = object["Tags"].as_array().into_iter().flatten();
    tags.map(|tag| (tag["Key"].as_str().unwrap(), tag["Value"].as_str().unwrap())).collect()
}

#[test]
fn a_disk_becomes_an_image_with_all_its_attributes_and_boto3_reads_the_same_blocks() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({}));
    let key = account.kms_key(HOME).to_owned();
    let settings = [
        ("AWS_BOOT_MODE", "uefi"),
        ("AWS_TPM_SUPPORT", "v2.0"),
        ("AWS_IMDS_SUPPORT", "v2.0"),
        ("AWS_ROOT_DEVICE_NAME", "/dev/sda1"),
        ("AWS_VOLUME_TYPE", "gp3"),
        ("AWS_VOLUME_IOPS", "4000"),
        ("AWS_VOLUME_SIZE", "3GiB"),
        ("AWS_DELETE_ON_TERMINATION", "no"),
        ("AWS_KMS_KEY_ID", &key),
        ("AWS_DEPRECATE_AFTER", "30d"),
    ];
    let sandbox = sandbox(&account, &settings);
    let run = build(&sandbox, "with-attributes", &["--image-tags", "[{team: images}]"]);
    run.succeeded();
    let secret = account.key("builder").1;
    assert!(!run.stderr.contains(secret) && !run.stdout.contains(secret), "{}", run.stderr);
    account.has_only(1);
    let image = account.holds(&id_of(&run), HOME, &sandbox.path().join("disk.raw"));
    has(
        &image,
        &[
            ("/Name", json!("with-attributes")),
            ("/State", json!("available")),
            ("/OwnerId", json!(account.id())),
            ("/Public", json!(false)),
            ("/Architecture", json!("x86_64")),
            ("/VirtualizationType", json!("hvm")),
            ("/RootDeviceType", json!("ebs")),
            ("/RootDeviceName", json!("/dev/sda1")),
            ("/BootMode", json!("uefi")),
            ("/TpmSupport", json!("v2.0")),
            ("/ImdsSupport", json!("v2.0")),
            ("/EnaSupport", json!(true)),
            ("/SriovNetSupport", json!("simple")),
            ("/BlockDeviceMappings/0/DeviceName", json!("/dev/sda1")),
            ("/BlockDeviceMappings/0/Ebs/VolumeType", json!("gp3")),
            ("/BlockDeviceMappings/0/Ebs/Iops", json!(4000)),
            ("/BlockDeviceMappings/0/Ebs/VolumeSize", json!(3)),
            ("/BlockDeviceMappings/0/Ebs/DeleteOnTermination", json!(false)),
            ("/BlockDeviceMappings/0/Ebs/Encrypted", json!(true)),
        ],
    );
    assert_eq!(tags(&image)["team"], "images");
    assert!(image["DeprecationTime"].is_string(), "{image:#}");
    let snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"].clone();
    let shown = account.call("ec2", "DescribeSnapshots", &json!({"SnapshotIds": [snapshot]}), HOME);
    let shown = &shown["Snapshots"][0];
    has(shown, &[("/VolumeSize", json!(1)), ("/KmsKeyId", json!(key))]);
    assert_eq!(tags(shown)["team"], "images");
    // Only blocks with data are sent, each once.
    let expected: BTreeMap<u64, u64> = (0..(3 << 20) / BLOCK).map(|block| (block, 1)).collect();
    assert_eq!(puts(&account), expected);
    let permissions = json!({"ImageId": id_of(&run), "Attribute": "launchPermission"});
    let permissions = account.call("ec2", "DescribeImageAttribute", &permissions, HOME);
    assert_eq!(permissions["LaunchPermissions"], json!([]));
}

#[test]
fn an_installer_iso_becomes_a_registered_image() {
    let Some(server) = Aws::shared().filter(|_| needs_qemu()) else { return };
    let _turn = Turn::take();
    let account = server.account(&json!({}));
    let sandbox = Sandbox::new();
    sandbox.write("config.yml", &account.config(&[]));
    let iso = Iso::of("ok");
    let args =
        ["-i", iso.word(), "-c", "config.yml", "-p", "aws", "-m", "ltm", "-b", "1", "--reuse"];
    let run = sandbox.run(&args);
    run.succeeded();
    account.has_only(1);
    let disk = "artifacts/ok/aws/ltm_1slot/BIGIP-15.0.0-0.0.39.LTM_1SLOT.aws.raw";
    let image = account.holds(&id_of(&run), HOME, &sandbox.path().join(disk));
    let gib = run.member("virtual_size").as_u64().unwrap().div_ceil(1 << 30);
    let name = image["Name"].as_str().unwrap();
    assert!(name.starts_with("F5-BIGIP-15.0.0-0.0.39-BYOL-ltm-1slot-"), "{name}");
    has(
        &image,
        &[
            ("/State", json!("available")),
            ("/BootMode", json!("legacy-bios")),
            ("/EnaSupport", json!(true)),
            ("/BlockDeviceMappings/0/Ebs/VolumeSize", json!(gib)),
        ],
    );
}

#[test]
fn a_bucket_and_an_import_task_make_the_same_image() {
    let Some(server) = Aws::shared() else { return };
    for keep in ["no", "yes"] {
        let account = server.account(&json!({}));
        let bucket = account.bucket().to_owned();
        let settings = [
            ("AWS_UPLOAD", "s3"),
            ("AWS_BUCKET", bucket.as_str()),
            ("AWS_S3_PREFIX", "images/"),
            ("AWS_KEEP_S3_OBJECT", keep),
        ];
        let sandbox = sandbox(&account, &settings);
        let run = build(&sandbox, "imported", &["--image-tags", "[{team: images}]"]);
        run.succeeded();
        let image = account.holds(&id_of(&run), HOME, &sandbox.path().join("disk.raw"));
        assert_eq!(tags(&image)["team"], "images");
        let snapshots = account.owned("snapshots");
        assert_eq!(snapshots.len(), 1, "{snapshots:#?}");
        assert_eq!(snapshots[0]["tags"]["team"], "images", "{snapshots:#?}");
        assert_eq!(account.owned("tasks")[0]["Status"], "completed");
        assert_eq!(account.owned("uploads"), Vec::<Value>::new());
        let objects = account.owned("objects");
        assert_eq!(objects.len(), usize::from(keep == "yes"), "{objects:?}");
        let is_prefixed = |key: &Value| key.as_str().unwrap().starts_with("images/");
        assert!(objects.iter().all(is_prefixed), "{objects:?}");
    }
}

#[test]
fn copies_have_the_tags_the_permissions_and_the_date_of_the_image() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({}));
    let partner = server.account(&json!({}));
    let organization = "arn:aws:organizations::123456789012:organization/o-0123456789";
    let key = account.kms_key("us-east-2");
    let settings = [
        ("AWS_IMAGE_COPY_REGIONS", format!("[{AWAY}, us-east-2]")),
        ("AWS_IMAGE_COPY_KMS_KEY_IDS", format!("{{us-east-2: '{key}'}}")),
        ("AWS_IMAGE_SHARE_ACCOUNT_IDS", format!("['{}']", partner.id())),
        ("AWS_IMAGE_SHARE_ORGANIZATION_ARNS", format!("['{organization}']")),
        ("AWS_DEPRECATE_AFTER", "30d".to_owned()),
        ("AWS_BOOT_MODE", "uefi-preferred".to_owned()),
    ];
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let sandbox = sandbox(&account, &settings);
    let run = build(&sandbox, "copied", &["--image-tags", "[{team: images}]"]);
    run.succeeded();
    let images = account.owned("images");
    let regions: Vec<_> = images.iter().map(|image| image["region"].as_str().unwrap()).collect();
    assert_eq!(regions.len(), 3, "{images:#?}");
    for image in &images {
        let region = image["region"].as_str().unwrap();
        let id = image["id"].as_str().unwrap();
        let shown = account.holds(id, region, &sandbox.path().join("disk.raw"));
        let is_encrypted = json!(region == "us-east-2");
        has(
            &shown,
            &[
                ("/Name", json!("copied")),
                ("/State", json!("available")),
                ("/BootMode", json!("uefi-preferred")),
                ("/BlockDeviceMappings/0/Ebs/Encrypted", is_encrypted),
            ],
        );
        assert_eq!(tags(&shown)["team"], "images", "{region}");
        assert_eq!(image["deprecated"], images[0]["deprecated"], "{images:#?}");
        assert!(image["deprecated"].is_string(), "{image:#}");
        let expected = json!([["OrganizationArn", organization], ["UserId", partner.id()]]);
        assert_eq!(image["permissions"], expected, "{region}");
    }
    for snapshot in account.owned("snapshots") {
        assert_eq!(snapshot["tags"]["team"], "images", "{snapshot:#}");
    }
    account.call("ec2", "DescribeImages", &json!({"Owners": ["self"]}), AWAY);
    assert_eq!(partner.image(&id_of(&run), HOME)["OwnerId"], account.id());
}

#[test]
fn an_image_of_the_same_name_is_kept_or_replaced_as_requested() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({}));
    let older = foreign(&account, "taken");
    let before = account.image(&older, HOME);
    let sandbox = sandbox(&account, &[]);
    build(&sandbox, "taken", &[]).failed(6, &["`taken` exists already", &older]);
    assert_eq!(account.image(&older, HOME), before);
    account.has_only(1);
    assert!(puts(&account).is_empty(), "the name is refused before the upload");
    let run = build(&sandbox, "taken", &["--aws-if-exists", "replace"]);
    run.succeeded();
    assert_ne!(id_of(&run), older);
    account.has_only(1);
    account.holds(&id_of(&run), HOME, &sandbox.path().join("disk.raw"));
    // Its own image, too.
    let next = build(&sandbox, "taken", &["--aws-if-exists", "replace"]);
    next.succeeded();
    account.has_only(1);
}

#[test]
fn a_qcow2_and_a_vmdk_become_the_same_image() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({}));
    let sandbox = sandbox(&account, &[]);
    let disk = sandbox.path().join("disk.raw");
    for format in ["qcow2", "vmdk"] {
        let source = format!("disk.{format}");
        let convert = ["qemu-img", "convert", "-O", format, "disk.raw", &source];
        tool(sandbox.path(), &convert);
        let words = ["--disk", &source, "-c", "config.yml", "-p", "aws"];
        let run = sandbox.run(&[&words[..], &["--cloud-image-name", format]].concat());
        run.succeeded();
        account.holds(&id_of(&run), HOME, Path::new(&disk));
    }
}
