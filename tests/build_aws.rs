//! Builds images for moto behind the strict front, and reads with boto3 what the account has then.

use std::{collections::BTreeMap, path::Path, process::Command};

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
    let name = image["Name"].as_str().unwrap();
    assert!(name.starts_with("F5-BIGIP-15.0.0-0.0.39-BYOL-ltm-1slot-"), "{name}");
    has(
        &image,
        &[
            ("/State", json!("available")),
            ("/BootMode", json!("legacy-bios")),
            ("/EnaSupport", json!(true)),
            ("/BlockDeviceMappings/0/Ebs/VolumeSize", json!(20)),
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

/// What is wrong in the account or in the settings, exit code, and texts of the error.
type Refusal = (&'static str, Value, Vec<(&'static str, &'static str)>, i32, Vec<&'static str>);

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn the_preflight_check_names_what_a_build_would_fail_at() {
    let Some(server) = Aws::shared() else { return };
    let all = json!(["ec2:*", "ebs:*", "s3:*", "sts:*", "iam:*", "kms:*", "servicequotas:*"]);
    let without = |action: &str| {
        json!({"policy": {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": all, "Resource": "*"},
            {"Effect": "Deny", "Action": [action], "Resource": "*"}]}})
    };
    let cases: Vec<Refusal> = vec![
        ("all is well", json!({}), vec![], 0, vec![]),
        ("a wrong secret", json!({}), vec![("AWS_SECRET_ACCESS_KEY", "wrong")], 6, vec![]),
        (
            "an unknown key",
            json!({}),
            vec![("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")],
            6,
            vec!["access key"],
        ),
        (
            "a region that is not enabled",
            json!({}),
            vec![("AWS_REGION", "af-south-1")],
            6,
            vec!["af-south-1"],
        ),
        (
            "no permission to register",
            without("ec2:RegisterImage"),
            vec![],
            6,
            vec!["RegisterImage"],
        ),
        (
            "no permission to share",
            without("ec2:ModifyImageAttribute"),
            vec![("AWS_IMAGE_SHARE_ACCOUNT_IDS", "['123456789012']")],
            6,
            vec!["ModifyImageAttribute"],
        ),
        (
            "no permission to import",
            without("ec2:ImportSnapshot"),
            vec![("AWS_UPLOAD", "s3")],
            6,
            vec!["ImportSnapshot"],
        ),
        (
            "no role of imports",
            json!({"vmimport": false}),
            vec![("AWS_UPLOAD", "s3")],
            6,
            vec!["vmimport"],
        ),
        (
            "no bucket",
            json!({}),
            vec![("AWS_UPLOAD", "s3"), ("AWS_BUCKET", "no-such-bucket-here")],
            6,
            vec!["no-such-bucket-here"],
        ),
        (
            "an unknown key of encryption",
            json!({}),
            vec![(
                "AWS_KMS_KEY_ID",
                "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-4000-8000-000000000000",
            )],
            6,
            vec!["key"],
        ),
        (
            "a region of copies that is not enabled",
            json!({}),
            vec![("AWS_IMAGE_COPY_REGIONS", "[af-south-1]")],
            2,
            vec!["af-south-1"],
        ),
        (
            "public images are blocked",
            json!({"block_public": true}),
            vec![("AWS_IMAGE_VISIBILITY", "public")],
            2,
            vec!["public"],
        ),
    ];
    let mut wrong = Vec::new();
    for (what, given, settings, code, texts) in cases {
        let account = server.account(&given);
        let bucket = account.bucket().to_owned();
        let mut all = vec![("AWS_BUCKET", bucket.as_str())];
        all.retain(|(key, _)| !settings.iter().any(|(changed, _)| changed == key));
        all.extend(settings);
        let sandbox = sandbox(&account, &all);
        let mut command = sandbox.command(&[&["plan", "--check"], &BUILD[..]].concat());
        let run = Run::of(&command.output().unwrap(), None);
        let shown = format!("{}{}", run.stdout, run.stderr);
        if run.code != code || !texts.iter().all(|text| shown.contains(text)) {
            wrong.push(format!("{what}: not {code} {texts:?}, but {}:\n{shown}", run.code));
        }
        // Nothing is made, not even for a moment.
        let requests = account.requests();
        let makes = |request: &&Value| {
            let operation = request["operation"].as_str().unwrap_or_default();
            request["code"] != "DryRunOperation"
                && request["status"].as_u64().unwrap() < 300
                && ["Start", "Register", "Import", "Put", "Create"]
                    .iter()
                    .any(|verb| operation.starts_with(verb))
        };
        let made: Vec<_> = requests.iter().filter(makes).collect();
        if !made.is_empty() {
            wrong.push(format!("{what}: made {made:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Files in the home directory, environment, exit code, and texts.
type Source<'a> = (Vec<(&'a str, String)>, Vec<(&'static str, String)>, i32, Vec<&'static str>);

#[test]
fn credentials_come_from_where_the_vendors_tools_have_them() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({}));
    let (id, secret) = account.key("builder");
    let session = account.control("POST", "sessions", json!({}));
    let text = |name: &str| session[name].as_str().unwrap().to_owned();
    let process = json!({"Version": 1, "AccessKeyId": id, "SecretAccessKey": secret});
    let keys = format!("aws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    let region = ("AWS_REGION", HOME.to_owned());
    let start = "https://portal.example/start";
    let portal = format!(
        "[profile portal]\nregion = {HOME}\nsso_start_url = {start}\nsso_region = {HOME}\nsso_account_id = {}\nsso_role_name = builder\n",
        account.id()
    );
    // The vendor's tools name the file of a token after the SHA-1 of the address.
    let name = tool(Path::new("/"), &["sh", "-c", &format!("printf %s {start} | sha1sum")]);
    let cached = format!(".aws/sso/cache/{}.json", &name[..40]);
    let cached_token = json!({"accessToken": "of-the-portal", "expiresAt": "2099-01-01T00:00:00Z",
        "startUrl": start, "region": HOME})
    .to_string();
    let cases: Vec<Source<'_>> = vec![
        (
            vec![],
            vec![
                ("AWS_ACCESS_KEY_ID", id.to_owned()),
                ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
                region.clone(),
            ],
            0,
            vec![],
        ),
        (
            vec![],
            vec![
                ("AWS_ACCESS_KEY_ID", text("id")),
                ("AWS_SECRET_ACCESS_KEY", text("secret")),
                ("AWS_SESSION_TOKEN", text("token")),
                region.clone(),
            ],
            0,
            vec![],
        ),
        (
            vec![
                (".aws/credentials", format!("[default]\n{keys}")),
                (".aws/config", format!("[default]\nregion = {HOME}\n")),
            ],
            vec![],
            0,
            vec![],
        ),
        (
            vec![
                (".aws/credentials", format!("[work]\n{keys}")),
                (".aws/config", format!("[profile work]\nregion = {HOME}\n")),
            ],
            vec![("AWS_PROFILE", "work".to_owned())],
            0,
            vec![],
        ),
        (
            vec![(
                ".aws/config",
                format!("[default]\nregion = {HOME}\ncredential_process = echo '{process}'\n"),
            )],
            vec![],
            0,
            vec![],
        ),
        (
            vec![],
            vec![
                (
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                    format!("{}/_credentials/{}/container", server.url(), account.id()),
                ),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of-the-container".to_owned()),
                region.clone(),
            ],
            0,
            vec![],
        ),
        (
            vec![],
            vec![
                (
                    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
                    format!("{}/_credentials/{}", server.url(), account.id()),
                ),
                region.clone(),
            ],
            0,
            vec![],
        ),
        (
            vec![("token", "of-the-web".to_owned())],
            vec![
                ("AWS_WEB_IDENTITY_TOKEN_FILE", "token".to_owned()),
                ("AWS_ROLE_ARN", format!("arn:aws:iam::{}:role/builder", account.id())),
                region.clone(),
            ],
            0,
            vec![],
        ),
        (
            vec![(".aws/config", portal), (&cached, cached_token)],
            vec![("AWS_PROFILE", "portal".to_owned())],
            0,
            vec![],
        ),
        (
            vec![],
            vec![region, ("AWS_EC2_METADATA_DISABLED", "true".to_owned())],
            6,
            vec!["AWS_ACCESS_KEY_ID"],
        ),
    ];
    let mut wrong = Vec::new();
    for (files, environment, code, texts) in cases {
        let sandbox = Sandbox::new();
        sandbox.disk("disk.raw", 16, 3);
        for (name, text) in &files {
            sandbox.write(name, text);
        }
        let words = ["plan", "--check", "--disk", "disk.raw", "-p", "aws"];
        let mut command: Command = sandbox.command(&words);
        command.env("AWS_ENDPOINT_URL", server.url());
        command.envs(environment.iter().map(|(name, value)| (*name, value.as_str())));
        let run = Run::of(&command.output().unwrap(), None);
        let shown = format!("{}{}", run.stdout, run.stderr);
        if run.code != code || !texts.iter().all(|text| shown.contains(text)) {
            wrong.push(format!("{files:?} {environment:?}: {}:\n{shown}", run.code));
        }
        for secret in [secret, &text("secret"), &text("token")] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
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
