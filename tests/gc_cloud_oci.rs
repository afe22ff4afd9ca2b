//! Checks `gc --cloud` with a real docker-registry after kills at every line of a journal, from a host without any file:
//! nothing of the killed builds is left that a registry lists, and what others have there is unchanged.

use std::{
    collections::BTreeSet,
    fs,
    process::{Child, Command, Stdio},
    time::SystemTime,
};

use build_image_fault_proxy::{Options, Running, start};
use serde_json::{Value, json};

use crate::{
    account_oci::foreign,
    build_oci::{build, sandbox},
    harness::{Clock, OciRegistry, Run, Sandbox, needs, until},
    oci_faults::step,
};

/// Repository in which builds are killed, and one beside it.
const COLLECTED: &str = "team/disk";
const NEIGHBOUR: &str = "neighbour/disk";
/// Later than every lease, and than the age from which on leftovers are removed.
const LATER: i64 = 25 * 3600;
/// One point in this many is tried in a short run.
const STEP: usize = 8;
/// Least number of kills of a long run.
const KILLS: usize = 30;

/// Ways to build: in chunks or in one request, with one tag or two.
const WAYS: [&[&str]; 2] =
    [&["--oci-chunk-size", "1MiB", "--oci-tags", "[second]"], &["--oci-chunk-size", "0"]];

fn command(sandbox: &Sandbox, reference: &str, more: &[&str]) -> Command {
    let words = ["--disk", "disk.raw", "-p", "oci", "--oci-reference", reference];
    let mut build = sandbox.command(&[&words[..], more].concat());
    build.stdout(Stdio::null()).stderr(Stdio::null());
    build
}

/// Kills a build at a point of its journal, and forgets it; whether it came that far.
fn killed(sandbox: &Sandbox, reference: &str, more: &[&str], point: &str) -> bool {
    let mut build = command(sandbox, reference, more);
    let was_killed = build.env("BUILD_IMAGE_FAILPOINT", point).status().unwrap().code().is_none();
    for name in ["artifacts", "logs"] {
        let _ = fs::remove_dir_all(sandbox.path().join(name));
    }
    was_killed
}

/// Kills builds of each way, each with its own tag; returns how many.
fn lose_builds(registry: &OciRegistry, sandbox: &Sandbox) -> usize {
    let step = step(STEP);
    let mut kills = 0;
    for (way, more) in WAYS.into_iter().enumerate() {
        for (turn, number) in (1..).step_by(step).enumerate() {
            let all = ["before", "after"];
            // A short run tries one of the two.
            let when = if step == 1 { &all[..] } else { &all[turn % 2..=turn % 2] };
            let is_killed = |when: &&&str| {
                let tag = format!("lost-{way}-{number}-{when}");
                let reference = format!("{}/{COLLECTED}:{tag}", registry.address());
                let second = format!("[{tag}-second]");
                let more: Vec<&str> = more
                    .iter()
                    .map(|word| if *word == "[second]" { &second } else { *word })
                    .collect();
                killed(sandbox, &reference, &more, &format!("{when}:{number}"))
            };
            let count = when.iter().filter(is_killed).count();
            kills += count;
            if count == 0 {
                break;
            }
        }
    }
    assert!(kills >= if step == 1 { KILLS } else { 4 }, "{kills}");
    kills
}

/// Sets a further tag of an image, as another program does that does not compress its layer.
fn tag(registry: &OciRegistry, sandbox: &Sandbox, from: &str, to: &str) {
    let options =
        ["copy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"];
    let [from, to] = [from, to].map(|name| format!("docker://{}/{name}", registry.address()));
    registry.skopeo(sandbox.path(), &[&options[..], &[&from, &to]].concat());
}

/// Puts an image of others under a tag.
fn other(registry: &OciRegistry, data: u64, tag: &str) {
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 16, data);
    let name = format!("others-{data}/disk:1");
    build(&sandbox, &format!("{}/{name}", registry.address()), &[]).succeeded();
    self::tag(registry, &sandbox, &name, &format!("{COLLECTED}:{tag}"));
}

/// Images that look like those of killed builds: with tags like marks, of a run that is at work, with marks and a tag of a user,
/// complete ones whose tags were moved. Returns their digests.
fn look_alikes(registry: &OciRegistry, sandbox: &Sandbox) -> Vec<String> {
    foreign(registry, COLLECTED);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    other(registry, 4, &format!("build-image.{}.run-2.begun", now + 100 * 3600));
    other(registry, 5, "build-image.5.run-5");
    other(registry, 6, "build-image.5.run-6.begun");
    tag(registry, sandbox, "others-6/disk:1", &format!("{COLLECTED}:mine"));
    for (data, tag) in [(7, "build-image.5.run.7.begun"), (8, "my-build-image.5.run-8.begun")] {
        other(registry, data, tag);
    }
    // The first image has lost its tag to the second.
    let reference = format!("{}/{COLLECTED}:moved", registry.address());
    build(sandbox, &reference, &[]).succeeded();
    let second = Sandbox::new();
    second.disk("disk.raw", 16, 9);
    build(&second, &reference, &["--oci-if-exists", "replace"]).succeeded();
    registry.manifests(COLLECTED)
}

/// Collects from another machine, which has no file of any build, by a clock.
fn collect(reference: &str, clock: &Clock, more: &[&str]) -> Run {
    let elsewhere = Sandbox::new();
    let words =
        ["gc", "--cloud", "-p", "oci", "--oci-reference", reference, "--oci-retry-time", "0"];
    let mut gc = elsewhere.command(&[&words[..], more].concat());
    Run::of(&clock.rules(&mut gc).output().unwrap(), None)
}

/// Digests to which a tag refers that is not a mark of a run.
fn tagged(registry: &OciRegistry, repository: &str) -> BTreeSet<String> {
    registry.tags(repository).into_values().collect()
}

#[test]
fn what_lost_hosts_left_in_a_repository_is_removed_beside_what_others_have() {
    let Some(registry) = OciRegistry::start("plain", &[]).filter(|_| needs(&["cc"])) else {
        return;
    };
    let Some(far) = OciRegistry::start("plain", &[]) else { return };
    let sandbox = sandbox();
    let foreign: BTreeSet<String> = look_alikes(&registry, &sandbox).into_iter().collect();
    let begun = r#"after:"name":"13""#;
    let elsewhere = [(&registry, NEIGHBOUR), (&far, COLLECTED)];
    for (registry, repository) in elsewhere {
        let reference = format!("{}/{repository}:13", registry.address());
        assert!(killed(&sandbox, &reference, &[], begun));
    }
    let others =
        || elsewhere.map(|(registry, name)| (registry.manifests(name), registry.marks(name)));
    let theirs = others();
    let lost = format!("{}/{COLLECTED}:lost", registry.address());
    assert!(killed(&sandbox, &lost, &[], r#"after:"name":"lost""#));
    let kills = lose_builds(&registry, &sandbox);
    let manifests = || registry.manifests(COLLECTED).into_iter().collect::<BTreeSet<String>>();
    let before = (manifests(), registry.tags(COLLECTED));
    let complete: BTreeSet<String> =
        foreign.union(&tagged(&registry, COLLECTED)).cloned().collect();
    assert!(before.0.len() > complete.len(), "{before:?}");
    let reference = format!("{}/{COLLECTED}", registry.address());
    let clock = Clock::new(sandbox.path().join("clock"));
    // What is claimed stays, however old it is; a dry run changes nothing.
    collect(&reference, &clock, &["--yes", "--older-than", "0s"]).succeeded();
    assert_eq!((manifests(), registry.tags(COLLECTED)), before);
    clock.jump(LATER);
    collect(&reference, &clock, &[]).succeeded();
    assert_eq!((manifests(), registry.tags(COLLECTED)), before);
    let swept = collect(&reference, &clock, &["--yes"]);
    swept.succeeded();
    assert!(swept.stdout.contains("run-2  stays: a build is at work"), "{}", swept.stdout);
    // What a registry does not list is named.
    assert!(swept.stderr.contains("registries do not list them"), "{}", swept.stderr);
    assert_eq!((manifests(), registry.tags(COLLECTED)), (complete, before.1));
    let again = collect(&reference, &clock, &["--yes"]);
    again.succeeded();
    assert!(again.stdout.contains("no unfinished build left anything"), "{}", again.stdout);
    assert_eq!(others(), theirs);
    println!("{kills} kills, {} images removed", before.0.len() - manifests().len());
}

fn proxy(registry: &OciRegistry, rules: &Value) -> Running {
    let mut options = Options::new(registry.url());
    options.plain = true;
    let proxy = start(&options).unwrap();
    proxy.set_rules(&rules.to_string()).unwrap();
    proxy
}

/// The address of a repository behind a proxy.
fn behind(proxy: &Running) -> String {
    format!("{}/{COLLECTED}", proxy.url().trim_start_matches("http://"))
}

/// Starts a build, and waits until its image is in the repository and its tags are not.
fn publishing(registry: &OciRegistry, sandbox: &Sandbox, reference: &str) -> Child {
    let child = command(sandbox, reference, &[]).spawn().unwrap();
    until("the image", || !registry.manifests(COLLECTED).is_empty());
    child
}

#[test]
fn a_build_at_work_in_a_repository_stays_until_its_claim_ends() {
    let Some(registry) = OciRegistry::start("plain", &[]).filter(|_| needs(&["cc"])) else {
        return;
    };
    // The tag is set late.
    let late = json!([{"method": "PUT", "path": "*/manifests/build-image*", "fault": {"delay_answer_ms": 3000}}]);
    let proxy = proxy(&registry, &late);
    let sandbox = sandbox();
    let tagged = format!("{}:13", behind(&proxy));
    let clock = Clock::new(sandbox.path().join("clock"));
    let collect = |ahead: i64| {
        clock.jump(ahead);
        let run = collect(&behind(&proxy), &clock, &["--yes", "--older-than", "0s"]);
        run.succeeded();
        run.stdout.contains("stays: a build is at work")
    };
    let mut killed = publishing(&registry, &sandbox, &tagged);
    killed.kill().unwrap();
    killed.wait().unwrap();
    fs::remove_dir_all(sandbox.path().join("artifacts")).unwrap();
    for (ahead, stays) in [(0, true), (1800, true), (LATER, false)] {
        assert_eq!(collect(ahead), stays, "{ahead}");
        assert_eq!(registry.manifests(COLLECTED).len(), usize::from(stays), "{ahead}");
    }
    let mut live = publishing(&registry, &sandbox, &tagged);
    let mut times = 0;
    while live.try_wait().unwrap().is_none() {
        times += usize::from(collect(0));
    }
    assert!(times > 0 && live.wait().unwrap().success(), "collected {times} times beside it");
    assert!(!collect(LATER));
    registry.holds(
        &format!("{}/{COLLECTED}:13", registry.address()),
        "qcow2",
        &sandbox.path().join("disk.raw"),
    );
}

#[test]
fn an_image_that_a_later_build_completes_is_not_left_by_the_earlier_one() {
    let Some(registry) = OciRegistry::start("plain", &[]).filter(|_| needs(&["cc"])) else {
        return;
    };
    let sandbox = sandbox();
    let reference = format!("{}/{COLLECTED}:13", registry.address());
    assert!(killed(&sandbox, &reference, &[], r#"after:"name":"13""#));
    build(&sandbox, &reference, &[]).succeeded();
    // Its tag moves to another image; users may have its digest.
    let second = Sandbox::new();
    second.disk("disk.raw", 16, 9);
    build(&second, &reference, &["--oci-if-exists", "replace"]).succeeded();
    let before = registry.manifests(COLLECTED);
    assert_eq!(before.len(), 2);
    let clock = Clock::new(sandbox.path().join("clock"));
    clock.jump(LATER);
    let run = collect(&reference, &clock, &["--yes"]);
    run.succeeded();
    assert!(run.stdout.contains("no unfinished build left anything"), "{}", run.stdout);
    assert_eq!(registry.manifests(COLLECTED), before);
}

#[test]
fn a_registry_that_neither_lists_nor_deletes_is_named_with_what_to_do() {
    let Some(registry) = OciRegistry::start("fixed", &[]).filter(|_| needs(&["cc"])) else {
        return;
    };
    let sandbox = sandbox();
    let reference = format!("{}/{COLLECTED}:13", registry.address());
    assert!(killed(&sandbox, &reference, &[], r#"after:"name":"13""#));
    let before = registry.manifests(COLLECTED);
    assert_eq!(before.len(), 1);
    let clock = Clock::new(sandbox.path().join("clock"));
    clock.jump(LATER);
    let run = collect(&reference, &clock, &["--yes"]);
    run.failed(8, &["storage.delete.enabled", "not everything could be removed", &before[0]]);
    let refused = json!([{"path": "*/tags/list", "fault": {"status": {"code": 403}}}]);
    let proxy = proxy(&registry, &refused);
    let run = collect(&behind(&proxy), &clock, &["--yes"]);
    run.failed(
        6,
        &["cannot list the tags of the repository", "permission to pull and to list tags"],
    );
    assert_eq!(registry.manifests(COLLECTED), before);
}
