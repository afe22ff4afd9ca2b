//! Checks `build-image images` and `gc --cloud` with moto behind the strict front, from hosts that have no file of the
//! builds.

use std::{fs, process::Stdio};

use build_image_fault_proxy::{Options, start};
use serde_json::{Value, json};

use crate::{
    account_aws::look_alikes,
    build_aws::{BUILD, build, id_of, puts, sandbox},
    harness::{Aws, AwsAccount, Clock, Run, Sandbox, needs, until},
};

const CLOUD: [&str; 4] = ["-p", "aws", "-c", "config.yml"];
/// Later than every lease, and than the age from which on leftovers are removed.
const LATER: i64 = 25 * 3600;
/// One point in this many is tried in a short run.
const STEP: usize = 11;

fn run(sandbox: &Sandbox, args: &[&str]) -> Run {
    sandbox.run(&[args, &CLOUD[..]].concat())
}

fn document(run: &Run) -> Value {
    run.succeeded();
    serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{}", run.stdout))
}

/// Removes everything that the host remembers.
fn forget(sandbox: &Sandbox) {
    for name in ["artifacts", "logs", "images", ".cache", "result.json"] {
        let path = sandbox.path().join(name);
        let _ = fs::remove_dir_all(&path);
        let _ = fs::remove_file(&path);
    }
}

/// Kills a build at a line of its journal; whether it came that far.
fn killed(sandbox: &Sandbox, name: &str, number: usize) -> bool {
    let mut build = sandbox.command(&[&BUILD[..], &["--cloud-image-name", name]].concat());
    build.stdout(Stdio::null()).stderr(Stdio::null());
    build.env("BUILD_IMAGE_FAILPOINT", format!("after:{number}"));
    build.status().unwrap().code().is_none()
}

/// What an account has, without the members that a look at it changes.
fn owned(account: &AwsAccount) -> Vec<Vec<Value>> {
    let plain = |mut object: Value| {
        for member in ["state", "completing"] {
            object.as_object_mut().map(|members| members.remove(member));
        }
        object
    };
    let kinds = ["images", "snapshots", "objects", "uploads"];
    kinds.map(|kind| account.owned(kind).into_iter().map(plain).collect()).to_vec()
}

/// Whether an object is what an unfinished build left: no image, or a copy that is not finished.
fn is_left(images: &[Value], snapshot: &Value) -> bool {
    let has =
        |image: &Value| image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"] == snapshot["id"];
    !images.iter().any(has)
}

/// Kills builds of a way to upload, and forgets them. Returns how many were killed.
fn lose_builds(sandbox: &Sandbox, step: usize) -> usize {
    let mut kills = 0;
    for number in (1..).step_by(step) {
        let was_killed = killed(sandbox, &format!("lost-{number}"), number);
        forget(sandbox);
        if !was_killed {
            break;
        }
        kills += 1;
    }
    kills
}

/// Compares what remains after the collection with the objects of others, also after the images are deleted.
fn compare_remains(account: &AwsAccount, sandbox: &Sandbox, foreign: &[Vec<Value>], way: &str) {
    // Complete images stay, with their snapshots; objects, uploads, and imports do not.
    let images = account.owned("images");
    let left = account.owned("snapshots").into_iter().filter(|one| is_left(&images, one));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<Value>::new(), "{way}");
    let unfinished = |image: &&Value| image["tags"].to_string().contains("+unfinished");
    assert_eq!(images.iter().find(unfinished), None, "{way}");
    let active = account.owned("tasks").into_iter().filter(|task| task["Status"] == "active");
    assert_eq!(active.collect::<Vec<_>>(), Vec::<Value>::new(), "{way}");
    assert_eq!(owned(account)[2..], foreign[2..], "{way}");
    // Deleting the images of the builds leaves what others have.
    let listed = document(&run(sandbox, &["images", "list", "--json"]));
    for item in listed["items"].as_array().unwrap() {
        if item["name"].as_str().unwrap().starts_with("lost-") {
            let words = ["images", "delete", item["id"].as_str().unwrap(), "--yes"];
            run(sandbox, &words).succeeded();
        }
    }
    assert_eq!(owned(account), foreign, "{way}");
}

#[test]
fn what_killed_builds_of_lost_hosts_left_is_removed_once_it_is_old() {
    let Some(server) = Aws::shared().filter(|_| needs(&["cc"])) else { return };
    let whole = std::env::var_os("BUILD_IMAGE_SOAK_AWS").is_some();
    let step = if whole { 1 } else { STEP };
    let other = server.account(&json!({}));
    let theirs = sandbox(&other, &[]);
    build(&theirs, "theirs", &[]).succeeded();
    let of_others = owned(&other);
    let mut kills = 0;
    for way in ["ebs", "s3"] {
        let account = server.account(&json!({"polls": 0}));
        let bucket = account.bucket().to_owned();
        let more = [
            ("AWS_UPLOAD", way),
            ("AWS_BUCKET", &bucket),
            ("AWS_IMAGE_COPY_REGIONS", "[eu-west-1]"),
        ];
        let sandbox = sandbox(&account, &more);
        let kept = build(&sandbox, "kept", &[]);
        kept.succeeded();
        look_alikes(&account, &id_of(&kept));
        forget(&sandbox);
        let foreign = owned(&account);
        kills += lose_builds(&sandbox, step);
        // Imports end while they are looked at.
        for _ in 0..3 {
            run(&sandbox, &["gc", "--cloud"]).succeeded();
        }
        // What is young, or claimed, stays.
        let before = owned(&account);
        assert_ne!(before, foreign, "{way}");
        run(&sandbox, &["gc", "--cloud", "--yes"]).succeeded();
        assert_eq!(owned(&account), before, "{way}");
        let clock = Clock::new(sandbox.path().join("clock"));
        clock.jump(LATER);
        let later = |args: &[&str]| {
            let mut command = sandbox.command(&[args, &CLOUD[..]].concat());
            Run::of(&clock.rules(&mut command).output().unwrap(), None)
        };
        later(&["gc", "--cloud"]).succeeded();
        assert_eq!(owned(&account), before, "{way}");
        later(&["gc", "--cloud", "--yes"]).succeeded();
        let again = later(&["gc", "--cloud", "--yes"]);
        again.succeeded();
        assert!(again.stdout.contains("no unfinished build left anything"), "{}", again.stdout);
        compare_remains(&account, &sandbox, &foreign, way);
    }
    assert_eq!(owned(&other), of_others);
    assert!(kills >= if whole { 60 } else { 6 }, "{kills}");
    println!("{kills} kills");
}

#[test]
fn a_live_build_is_not_touched() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({"polls": 1}));
    let mut options = Options::new(server.url());
    options.plain = true;
    let proxy = start(&options).unwrap();
    let slow = json!([{"method": "PUT", "fault": {"delay_answer_ms": 300}}]);
    proxy.set_rules(&slow.to_string()).unwrap();
    let url = proxy.url();
    for way in ["ebs", "s3"] {
        let bucket = account.bucket();
        let settings = [
            ("AWS_ENDPOINT_URL", url.as_str()),
            ("AWS_UPLOAD", way),
            ("AWS_BUCKET", bucket),
            ("AWS_UPLOAD_CONCURRENCY", "1"),
        ];
        let builder = sandbox(&account, &settings);
        let other = sandbox(&account, &[("AWS_BUCKET", bucket)]);
        let name = format!("live-{way}");
        let mut command = builder.command(&[&BUILD[..], &["--cloud-image-name", &name]].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("the upload", || match way {
            "ebs" => !puts(&account).is_empty(),
            _ => !account.owned("uploads").is_empty(),
        });
        let mut collected = 0;
        while child.try_wait().unwrap().is_none() {
            let gc = run(&other, &["gc", "--cloud", "--yes", "--older-than", "0s"]);
            gc.succeeded();
            collected += 1;
        }
        assert!(collected > 0 && child.wait().unwrap().success(), "{way}: {collected}");
        println!("{way}: collected {collected} times beside it");
    }
    account.has_only(2);
}

#[test]
fn images_of_the_account_are_listed_changed_copied_repaired_and_deleted() {
    let Some(server) = Aws::shared() else { return };
    let account = server.account(&json!({"polls": 1}));
    let sandbox = sandbox(&account, &[]);
    let built = build(&sandbox, "web-1", &["--image-tags", "[{team: images}]"]);
    built.succeeded();
    let id = id_of(&built);
    forget(&sandbox);
    let images =
        |args: &[&str]| document(&run(&sandbox, &[&["images"], args, &["--json"]].concat()));
    let listed = images(&["list"]);
    assert_eq!(
        (&listed["items"][0]["id"], &listed["items"][0]["name"]),
        (&json!(id), &json!("web-1"))
    );
    let drift = ["drift", &id, "--expect", "eu-west-1", "--repair"];
    let repaired = images(&drift);
    assert_eq!(repaired["results"][0]["change"], "done", "{repaired:#}");
    let again = images(&drift);
    assert_eq!(again["results"], json!([]), "{again:#}");
    let copy = again["copies"][0]["copy"]["id"].as_str().unwrap().to_owned();
    // Planted differences of the copy are named and repaired, and then there are none.
    let region = "eu-west-1";
    let tags = |operation: &str, key: &str, value: &str| {
        let given = json!({"Resources": [copy], "Tags": [{"Key": key, "Value": value}]});
        account.call("ec2", operation, &given, region);
    };
    tags("CreateTags", "team", "others");
    tags("CreateTags", "extra", "x");
    let share = json!({"ImageId": copy, "LaunchPermission": {"Add": [{"UserId": "123456789012"}, {"Group": "all"}]}});
    account.call("ec2", "ModifyImageAttribute", &share, region);
    let date = json!({"ImageId": copy, "DeprecateAt": "2031-01-01T00:00:00Z"});
    account.call("ec2", "EnableImageDeprecation", &date, region);
    let shown = images(&["drift", &id]);
    let differences = shown["copies"][0]["differences"].as_array().unwrap().len();
    assert_eq!(differences, 5, "{shown:#}");
    let repaired = images(&drift);
    let changes: Vec<&Value> =
        repaired["results"].as_array().unwrap().iter().map(|one| &one["change"]).collect();
    assert!(!changes.is_empty() && changes.iter().all(|change| *change == "done"), "{repaired:#}");
    let again = images(&drift);
    assert_eq!((&again["results"], &again["copies"][0]["differences"]), (&json!([]), &json!([])));
    for (words, pointer, value) in [
        (&["share", &id, "--account", "123456789012"][..], "/shared_with/0", json!("123456789012")),
        (&["deprecate", &id], "/state", json!("deprecated")),
        (&["restore", &id], "/state", json!("available")),
    ] {
        for change in ["done", "unchanged"] {
            assert_eq!(images(words)["results"][0]["change"], change, "{words:?}");
        }
        let item = &images(&["show", &id])["items"][0];
        assert_eq!(item.pointer(pointer), Some(&value), "{words:?}: {item:#}");
    }
    for image in [&copy, &id] {
        let words = ["delete", image, "--force", "--yes"];
        assert_eq!(images(&words)["results"][0]["change"], "done");
    }
    account.has_only(0);
}
