//! Checks IMAGE_DEPRECATE_OLDER: builds that deprecate the older images of their family, with a provider whose account is a
//! directory and with the emulated Alibaba Cloud.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::{
    harness::{Run, Sandbox, until},
    images::{Bench, command, run},
    optional_steps::account,
};

const FAMILY: [&str; 2] = ["--image-deprecate-family", "web-"];

/// The words of a build that keeps the newest images of its family.
fn words<'a>(name: &'a str, keep: &'a str) -> Vec<&'a str> {
    let build = ["--disk", "disk.raw", "--cloud-image-name", name, "--image-deprecate-older", keep];
    [&build[..], &FAMILY].concat()
}

/// A host with a disk.
fn host(bench: &Bench) -> Sandbox {
    let host = bench.host();
    host.disk("disk.raw", 2, 1);
    host
}

/// An image that was made at a time.
fn image(bench: &Bench, name: &str, created: u64) -> String {
    let id = bench.image(name);
    bench.edit("home", &id, |image| image["created"] = created.into());
    id
}

fn properties(bench: &Bench, id: &str) -> Value {
    let path = bench.directory.path().join("home").join(format!("{id}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn is_deprecated(bench: &Bench, id: &str) -> bool {
    !properties(bench, id)["deprecated_at"].is_null()
}

/// Identifiers of the images that a result names as deprecated, with what became of them.
fn results(run: &Run) -> Vec<(String, String)> {
    let none = Vec::new();
    let document = run.result.as_ref().unwrap();
    let all = document.get("deprecated").and_then(Value::as_array).unwrap_or(&none).iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.map(|one| (text(&one["image"]["id"]), text(&one["change"]))).collect()
}

#[test]
fn the_older_images_of_the_family_are_deprecated_once_the_new_one_is_released() {
    let bench = Bench::new();
    let old = [("web-1", 100), ("web-2", 200), ("web-3", 300), ("db-1", 50)];
    let ids = old.map(|(name, created)| image(&bench, name, created));
    let built = run(&host(&bench), &words("web-4", "2"));
    built.succeeded();
    assert!(built.stderr.contains("2 older images deprecated"), "{}", built.stderr);
    let new = built.member("image_id").as_str().unwrap();
    assert_eq!(
        results(&built),
        [(ids[1].clone(), "done".to_owned()), (ids[0].clone(), "done".to_owned())]
    );
    let states = ids.each_ref().map(|id| is_deprecated(&bench, id));
    assert_eq!((states, is_deprecated(&bench, new)), ([true, true, false, false], false));
    assert_eq!(properties(&bench, &ids[0])["replacement"]["id"], new);
    // Deprecated images do not count: the next build leaves two active ones.
    let next = run(&host(&bench), &words("web-5", "2"));
    assert_eq!(results(next.succeeded()), [(ids[2].clone(), "done".to_owned())]);
    assert!(!is_deprecated(&bench, new));
}

#[test]
fn a_build_never_deprecates_an_image_that_is_newer() {
    let bench = Bench::new();
    let ids = [("web-1", 100), ("web-9", 9_999_999_999)]
        .map(|(name, created)| image(&bench, name, created));
    let built = run(&host(&bench), &words("web-2", "1"));
    assert_eq!(results(built.succeeded()), [(ids[0].clone(), "done".to_owned())]);
    let own = built.member("image_id").as_str().unwrap();
    assert!(!is_deprecated(&bench, &ids[1]) && !is_deprecated(&bench, own));
}

#[test]
fn settings_that_contradict_are_refused_before_anything_is_made() {
    let bench = Bench::new();
    let id = image(&bench, "web-1", 100);
    let before = bench.files("home");
    let build = ["--disk", "disk.raw", "--cloud-image-name", "web-2"];
    for (more, text) in [
        (&["--image-deprecate-older", "1"][..], "IMAGE_DEPRECATE_FAMILY is not"),
        (&FAMILY, "IMAGE_DEPRECATE_OLDER is not"),
        (&["--image-deprecate-older", "0"], "every image"),
        (
            &["--image-deprecate-older", "1", "--image-deprecate-family", "db-"],
            "`web-2` does not begin with",
        ),
    ] {
        let refused = run(&host(&bench), &[&build[..], more].concat());
        refused.failed(2, &[text, "hint: "]);
        assert_eq!(bench.files("home"), before, "{more:?}");
    }
    assert!(!is_deprecated(&bench, &id));
    // A provider without the capability: a file in a directory is not deprecated.
    let local = Sandbox::new();
    local.disk("disk.raw", 2, 1);
    let rule = ["--image-deprecate-older", "1", "--image-deprecate-family", "web-"];
    let refused = local.run(&[&["--disk", "disk.raw", "-p", "qcow2"][..], &rule].concat());
    refused.failed(6, &["provider `qcow2` cannot deprecate images", "hint: leave"]);
    assert!(!local.path().join("images").exists());
}

#[test]
fn a_build_that_fails_deprecates_nothing() {
    let bench = Bench::new();
    let id = image(&bench, "web-1", 100);
    let host = host(&bench);
    // The name is taken, and the statement cannot be written once the image is there.
    run(&host, &words("web-1", "1")).failed(6, &["exists already"]);
    assert!(!is_deprecated(&bench, &id));
    fs::create_dir_all(host.path().join("statement.json/in-the-way")).unwrap();
    let late = [&words("web-2", "1")[..], &["--provenance-file", "statement.json"]].concat();
    let late = run(&host, &late);
    assert!(late.code != 0, "{}", late.stderr);
    assert!(!is_deprecated(&bench, &id), "{}", late.stderr);
}

/// Kills a build after a line of its journal; whether it came that far.
fn killed(host: &Sandbox, words: &[&str], number: u64) -> bool {
    let mut build = command(host, words);
    build.env("BUILD_IMAGE_FAILPOINT", format!("after:{number}"));
    build.output().unwrap().status.code().is_none()
}

#[test]
fn a_killed_build_is_resumed_with_the_images_that_it_decided_on() {
    let words = words("web-4", "1");
    let mut kills = 0;
    for number in 1.. {
        let bench = Bench::new();
        let ids = [("web-1", 100), ("web-2", 200)].map(|(name, at)| image(&bench, name, at));
        let host = host(&bench);
        if !killed(&host, &words, number) {
            break;
        }
        kills += 1;
        let states = ids.each_ref().map(|id| is_deprecated(&bench, id));
        let listed = host.command(&["runs", "--json"]).output().unwrap();
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        let runs = listed["runs"].as_array().unwrap().clone();
        let known = runs.first().filter(|run| run["platform"] != "" && run["state"] != "done");
        let Some(known) = known else {
            // Killed before the run had begun, or when everything was done.
            assert_eq!(states, [runs.iter().any(|run| run["state"] == "done"); 2], "{number}");
            continue;
        };
        if number % 2 == 0 {
            // The decision stays also when another build made a newer image in the meantime.
            image(&bench, "web-9", 9_999_999_999);
        }
        let run = known["id"].as_str().unwrap();
        let file = account().to_str().unwrap();
        host.run(&["resume", run, "--provider-file", file]).succeeded();
        let states = ids.each_ref().map(|id| is_deprecated(&bench, id));
        assert_eq!(states, [true; 2], "{number}");
    }
    assert!(kills >= 15, "{kills}");
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Runs a build in the emulated cloud.
fn in_cloud(sandbox: &Sandbox, args: &[&str]) -> Run {
    sandbox.run(&[args, &["-p", "alibaba", "-c", "config.yml"]].concat())
}

fn state_of(sandbox: &Sandbox, id: &str) -> String {
    let shown = in_cloud(sandbox, &["images", "show", id, "--json"]);
    let shown: Value = serde_json::from_str(&shown.succeeded().stdout).unwrap();
    shown["items"][0]["state"].as_str().unwrap().to_owned()
}

#[test]
fn what_the_cloud_refuses_is_listed_and_done_by_resume() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 1);
    let first = in_cloud(&sandbox, &["--disk", "disk.raw", "--cloud-image-name", "web-1"]);
    let old = first.succeeded().member("image_id").as_str().unwrap().to_owned();
    // The cloud states the age of images in whole seconds.
    let made = seconds();
    until("the next second begins", || seconds() > made);
    let emulator = sandbox.emulator.as_ref().unwrap();
    let rule =
        r#"[{"operation":"ModifyImageAttribute","action":{"status":403,"code":"Forbidden.RAM"}}]"#;
    emulator.set_faults(rule).unwrap();
    let built = in_cloud(&sandbox, &words("web-2", "1"));
    let by_hand = format!("build-image images deprecate {old} --replacement ");
    built.failed(9, &["is released, but older images were not deprecated", &by_hand]);
    assert_eq!(results(&built), [(old.clone(), "refused".to_owned())]);
    let new = built.member("image_id").as_str().unwrap().to_owned();
    assert_eq!([&old, &new].map(|id| state_of(&sandbox, id)), ["available", "available"]);
    emulator.set_faults("[]").unwrap();
    let run_id = built.member("run_id").as_str().unwrap();
    let resumed = in_cloud(&sandbox, &["resume", run_id]);
    resumed.succeeded();
    assert_eq!(results(&resumed), [(old.clone(), "done".to_owned())]);
    assert_eq!([&old, &new].map(|id| state_of(&sandbox, id)), ["deprecated", "available"]);
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
}
