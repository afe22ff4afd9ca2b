//! Checks `build-image images` and `gc --cloud` with the emulated Alibaba Cloud, from hosts that have no file of the builds.

use std::{fs, process::Stdio};

use serde_json::Value;

use crate::harness::{Clock, Run, Sandbox, needs};

const CLOUD: [&str; 4] = ["-p", "alibaba", "-c", "config.yml"];
/// Later than every lease, and than the age from which on leftovers are removed.
const LATER: i64 = 25 * 3600;

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
fn killed(sandbox: &Sandbox, number: u64) -> bool {
    let name = format!("lost-{number}");
    let words = ["--disk", "disk.raw", "--cloud-image-name", &name];
    let mut build = sandbox.command(&[&words[..], &CLOUD].concat());
    build.stdout(Stdio::null()).stderr(Stdio::null());
    build.env("BUILD_IMAGE_FAILPOINT", format!("after:{number}"));
    build.status().unwrap().code().is_none()
}

#[test]
fn what_killed_builds_of_lost_hosts_left_is_removed_once_it_is_old() {
    if !needs(&["cc"]) {
        return;
    }
    let sandbox = Sandbox::with_cloud();
    sandbox.write("config.yml", &sandbox.config(&[]));
    sandbox.disk("disk.raw", 24, 8);
    run(&sandbox, &["--disk", "disk.raw", "--cloud-image-name", "kept"]).succeeded();
    let mut kills = 0;
    for number in 1.. {
        let was_killed = killed(&sandbox, number);
        forget(&sandbox);
        if !was_killed {
            break;
        }
        kills += 1;
    }
    assert!(kills >= 15, "{kills}");
    let emulator = sandbox.emulator.as_ref().unwrap();
    let before = emulator.status();
    assert!(
        before["objects"].as_u64() > Some(0) && before["open_uploads"].as_u64() > Some(0),
        "{before}"
    );
    let young = run(&sandbox, &["gc", "--cloud", "--yes"]);
    young.succeeded();
    assert!(young.stdout.contains("stays: "), "{}", young.stdout);
    assert_eq!(emulator.status()["objects"], before["objects"]);

    let clock = Clock::new(sandbox.path().join("clock"));
    clock.jump(LATER);
    let later = |args: &[&str]| {
        let mut command = sandbox.command(&[args, &CLOUD[..]].concat());
        Run::of(&clock.rules(&mut command).output().unwrap(), None)
    };
    let dry = later(&["gc", "--cloud"]);
    dry.succeeded();
    assert!(dry.stdout.contains("nothing was removed; give --yes"), "{}", dry.stdout);
    assert_eq!(emulator.status()["objects"], before["objects"]);
    later(&["gc", "--cloud", "--yes"]).succeeded();
    // Complete images stay, and nothing else.
    let images = before["images"].as_u64().unwrap();
    assert!(images > 1, "{images}");
    sandbox.cloud_has_only(images);
    let again = later(&["gc", "--cloud", "--yes"]);
    again.succeeded();
    assert!(again.stdout.contains("no unfinished build left anything"), "{}", again.stdout);
    println!("{kills} kills, {images} images");
}

#[test]
fn images_of_the_account_are_listed_changed_copied_and_deleted() {
    let sandbox = Sandbox::with_cloud();
    sandbox.write("config.yml", &sandbox.config(&[]));
    sandbox.disk("disk.raw", 24, 8);
    let built = run(&sandbox, &["--disk", "disk.raw", "--cloud-image-name", "web-1"]);
    built.succeeded();
    let id = built.member("image_id").as_str().unwrap().to_owned();
    forget(&sandbox);
    let images =
        |args: &[&str]| document(&run(&sandbox, &[&["images"], args, &["--json"]].concat()));
    let listed = images(&["list"]);
    assert_eq!(
        (listed["items"][0]["id"].as_str(), listed["items"][0]["name"].as_str()),
        (Some(id.as_str()), Some("web-1"))
    );
    for (words, pointer, value) in [
        (&["tag", &id, "--tag", "owner=team"][..], "/tags/owner", Value::from("team")),
        (
            &["share", &id, "--account", "1234567890123456"],
            "/shared_with/0",
            "1234567890123456".into(),
        ),
        (&["deprecate", &id], "/state", "deprecated".into()),
        (&["restore", &id], "/state", "available".into()),
    ] {
        assert_eq!(
            images(&[words, &["--dry-run"]].concat())["results"][0]["change"],
            "done",
            "{words:?}"
        );
        assert_eq!(images(words)["results"][0]["change"], "done", "{words:?}");
        assert_eq!(images(words)["results"][0]["change"], "unchanged", "{words:?}");
        let item = &images(&["show", &id])["items"][0];
        assert_eq!(item.pointer(pointer), Some(&value), "{words:?}: {item:#}");
    }
    let drift = ["drift", &id, "--expect", "cn-beijing", "--repair"];
    let repaired = images(&drift);
    assert_eq!(repaired["results"][0]["change"], "done", "{repaired:#}");
    let again = images(&drift);
    assert_eq!(again["results"], serde_json::json!([]), "{again:#}");
    assert_eq!(again["copies"][0]["differences"], serde_json::json!([]), "{again:#}");
    let copy = again["copies"][0]["copy"]["id"].as_str().unwrap();
    for image in [copy, &id] {
        assert_eq!(images(&["delete", image, "--force", "--yes"])["results"][0]["change"], "done");
    }
    sandbox.cloud_has_only(0);
}
