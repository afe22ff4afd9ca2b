//! Checks IF_SAME with moto behind the strict front: a second build of the same disk changes nothing, and images that differ
//! from what was requested are not its result.

use serde_json::{Value, json};

use crate::{
    account_aws::changing,
    build_aws::{BUILD, HOME, build, foreign, id_of, puts, sandbox},
    harness::{Aws, AwsAccount, Run, Sandbox},
};

/// Region of copies.
const AWAY: &str = "eu-west-1";
/// Mark with the digest of the disk.
const DISK: &str = "build-image-disk";
/// Name of the image of the first build.
const NAME: &str = "same-web";

/// Builds from a new host.
fn build_again(account: &AwsAccount, settings: &[(&str, &str)], args: &[&str]) -> Run {
    sandbox(account, settings).run(&[&BUILD[..], args].concat())
}

fn was_skipped(run: &Run) -> bool {
    run.succeeded();
    run.result.as_ref().unwrap().get("skipped").and_then(Value::as_bool) == Some(true)
}

/// An account with the image of a build whose disk is known.
fn with_image(account: &AwsAccount, settings: &[(&str, &str)]) -> String {
    let run = build_again(account, settings, &["--cloud-image-name", NAME, "--if-same", "new"]);
    assert!(!was_skipped(&run));
    id_of(&run)
}

fn skip(account: &AwsAccount, settings: &[(&str, &str)], args: &[&str]) -> Run {
    build_again(account, settings, &[args, &["--if-same", "skip"]].concat())
}

/// The tags of an object of the account.
fn tags(account: &AwsAccount, kind: &str, key: &str) -> Vec<Value> {
    account.owned(kind).into_iter().map(|object| object["tags"][key].clone()).collect()
}

#[test]
fn a_second_build_of_the_same_disk_changes_nothing() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({"polls": 1}));
    let settings = [
        ("AWS_IMAGE_COPY_REGIONS", "[eu-west-1]"),
        ("AWS_IMAGE_SHARE_ACCOUNT_IDS", "['123456789012']"),
        ("AWS_DEPRECATE_AFTER", "30d"),
    ];
    // An image of another program has no mark, and is not compared.
    foreign(&account, "same-foreign");
    let first = build_again(&account, &settings, &["--cloud-image-name", NAME, "--if-same", "new"]);
    assert!(!was_skipped(&first));
    // The image, its copy, and their snapshots have the same mark.
    let marked = [tags(&account, "images", DISK), tags(&account, "snapshots", DISK)].concat();
    let marked: Vec<&str> = marked.iter().filter_map(Value::as_str).collect();
    assert_eq!(marked.len(), 4, "{marked:?}");
    assert!(marked.iter().all(|one| one.starts_with("sha256:") && one == &marked[0]), "{marked:?}");
    let before = changing(&account);
    for args in [&["--cloud-image-name", NAME][..], &[]] {
        let second = skip(&account, &settings, args);
        assert!(was_skipped(&second), "{args:?}: {}", second.stderr);
        for name in ["images", "image_id", "aws_region", "aws_snapshot_id", "aws_account_id"] {
            assert_eq!(second.member(name), first.member(name), "{name}");
        }
        assert_eq!(second.member("bytes_sent"), 0);
    }
    assert_eq!(changing(&account), before, "a second build changed something");
    // `new` makes another image, and names the first.
    let another =
        build_again(&account, &[], &["--cloud-image-name", "same-new", "--if-same", "new"]);
    assert!(!was_skipped(&another));
    assert!(another.stderr.contains(&format!("image {} (", id_of(&first))), "{}", another.stderr);
    // Another disk has another digest.
    let host = sandbox(&account, &settings);
    host.disk("disk.raw", 17, 2);
    let other = build(&host, "same-other", &["--if-same", "skip"]);
    assert!(!was_skipped(&other), "{}", other.stderr);
}

/// Settings, arguments, and texts of a build that is refused because the image of its name differs.
type Case =
    (&'static [(&'static str, &'static str)], &'static [&'static str], &'static [&'static str]);

#[test]
fn an_image_that_is_not_as_requested_is_not_the_result() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({"polls": 1}));
    let id = with_image(&account, &[]);
    let cases: [Case; 9] = [
        (&[("AWS_BOOT_MODE", "uefi")], &[], &["its boot mode is `legacy-bios`, not `uefi`"]),
        (&[("AWS_IMDS_SUPPORT", "v2.0")], &[], &["its metadata service is ``, not `v2.0`"]),
        (&[("AWS_VOLUME_TYPE", "gp3")], &[], &["its volume type is `gp2`"]),
        (&[("AWS_VOLUME_SIZE", "2GiB")], &[], &["its volume size is `1`, not `2`"]),
        (&[("AWS_ENCRYPTED", "yes")], &[], &["it is not encrypted"]),
        (&[("AWS_IMAGE_VISIBILITY", "public")], &[], &["it is not public", "--audience public"]),
        (&[("AWS_DEPRECATE_AFTER", "30d")], &[], &["is not deprecated from", "images deprecate"]),
        (
            &[("AWS_IMAGE_COPY_REGIONS", "[eu-west-1]")],
            &[],
            &["region eu-west-1: no complete image", "--to eu-west-1 --with-access"],
        ),
        (&[], &["--image-tags", "[{owner: us}]"], &["tag `owner` differs"]),
    ];
    let before = changing(&account);
    for (settings, args, texts) in cases {
        let run = skip(&account, settings, &[&["--cloud-image-name", NAME], args].concat());
        let shown = format!("{texts:?} in {}", run.stderr);
        run.failed(6, &["exists already"]);
        for text in texts.iter().filter(|text| !text.contains("differs")) {
            assert!(run.stderr.contains(text), "{shown}");
        }
        assert!(run.stderr.contains(&id), "{shown}");
    }
    assert_eq!(changing(&account), before, "a build that is refused changed something");
    assert!(puts(&account).len() == 6, "nothing but the first disk was sent");
    // Another name was requested: that image is made.
    let named = skip(&account, &[], &["--cloud-image-name", "same-db"]);
    assert!(!was_skipped(&named) && named.stderr.contains("its name is"), "{}", named.stderr);
    // The hint is the repair.
    let host = sandbox(&account, &[]);
    let share = [("AWS_IMAGE_SHARE_ACCOUNT_IDS", "['123456789012']")];
    let refused = skip(&account, &share, &["--cloud-image-name", NAME]);
    refused.failed(6, &["is not shared with 123456789012"]);
    let hint = format!("images share {id} --account 123456789012");
    assert!(refused.stderr.contains(&hint), "{}", refused.stderr);
    let words: Vec<&str> = hint.split(' ').collect();
    host.run(&[&words[..], &["-p", "aws", "-c", "config.yml"]].concat()).succeeded();
    assert!(was_skipped(&skip(&account, &share, &["--cloud-image-name", NAME])));
}

#[test]
fn an_image_in_another_state_or_of_others_is_not_the_result() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({"polls": 1}));
    let id = with_image(&account, &[]);
    let call = |operation: &str| account.call("ec2", operation, &json!({"ImageId": id}), HOME);
    call("DisableImage");
    let run = skip(&account, &[], &["--cloud-image-name", NAME]);
    run.failed(6, &["is deprecated or disabled"]);
    call("EnableImage");
    assert!(was_skipped(&skip(&account, &[], &["--cloud-image-name", NAME])));
    // A copy by another program has inherited the marks, and is not of a build.
    let copy =
        json!({"Name": NAME, "SourceImageId": id, "SourceRegion": HOME, "CopyImageTags": true});
    let copied = account.call("ec2", "CopyImage", &copy, AWAY);
    let copied = copied["ImageId"].as_str().unwrap().to_owned();
    for _ in 0..3 {
        account.image(&copied, AWAY);
    }
    let away = [("AWS_REGION", AWAY)];
    let there = skip(&account, &away, &["--cloud-image-name", "same-there"]);
    assert!(!was_skipped(&there), "{}", there.stderr);
    // While it is made, an image is not complete.
    account.control("POST", "settings", json!({"polls": 1000}));
    let first = account.owned("images").into_iter().find(|one| one["id"] == json!(id)).unwrap();
    let snapshot = first["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"].clone();
    let tag = |key: &str, value: &Value| json!({"Key": key, "Value": value});
    let marks = [tag(DISK, &first["tags"][DISK]), tag("build-image-run", &json!("another-run"))];
    let pending = json!({"Name": "same-pending", "RootDeviceName": "/dev/xvda",
        "VirtualizationType": "hvm", "Architecture": "x86_64",
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
        "TagSpecifications": [{"ResourceType": "image", "Tags": marks}]});
    assert!(account.call("ec2", "RegisterImage", &pending, HOME)["ImageId"].is_string());
    account.control("POST", "settings", json!({"polls": 1}));
    call("DeregisterImage");
    let made = skip(&account, &[], &["--cloud-image-name", NAME]);
    assert!(!was_skipped(&made), "{}", made.stderr);
    assert!(made.stderr.contains("is not complete yet"), "{}", made.stderr);
}

/// Kills a build after the first line of its journal with a text; whether it came that far.
fn killed(host: &Sandbox, point: &str) -> bool {
    let args = ["--cloud-image-name", NAME, "--if-same", "skip"];
    let mut build = host.command(&[&BUILD[..], &args].concat());
    build.env("BUILD_IMAGE_FAILPOINT", format!("after:{point}"));
    build.output().unwrap().status.code().is_none()
}

#[test]
fn what_an_interrupted_build_left_is_not_the_result_until_it_is_finished() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({"polls": 1}));
    let host = sandbox(&account, &[]);
    assert!(killed(&host, r#""images""#));
    let before = account.owned("images");
    assert_eq!(before.len(), 1);
    // Meanwhile it becomes available.
    for _ in 0..3 {
        account.image(before[0]["id"].as_str().unwrap(), HOME);
    }
    let run = skip(&account, &[], &["--cloud-image-name", NAME]);
    run.failed(6, &["its build was interrupted", "exists already"]);
    let listed = host.command(&["runs", "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let resumed = host.run(&["resume", listed["runs"][0]["id"].as_str().unwrap()]);
    resumed.succeeded();
    let second = skip(&account, &[], &["--cloud-image-name", NAME]);
    assert!(was_skipped(&second), "{}", second.stderr);
    assert_eq!(id_of(&second), id_of(&resumed));
    account.has_only(1);
}
