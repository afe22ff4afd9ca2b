//! Checks `gc --cloud` with a real Glance after kills at every line of a journal, from a host without any file: nothing of
//! the killed builds is left, and what others have in the project, and in another one, is unchanged.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::SystemTime,
};

use build_image_fault_proxy::{Options, start};
use serde_json::{Value, json};

use crate::{
    build_openstack::{build, disk, foreign},
    harness::{Clock, OpenStack, Run, Sandbox, needs, until},
};

/// The project in which builds are killed, one beside it, and one with a build at work.
const COLLECTED: (&str, &str) = ("builder", "collected");
const NEIGHBOURS: (&str, &str) = ("builder", "neighbours");
const WORKING: (&str, &str) = ("builder", "working");
/// Name of all images.
const NAME: &str = "lost";
/// Later than every lease, and than the age from which on leftovers are removed.
const LATER: i64 = 25 * 3600;
/// One point in this many is tried in a short run.
const STEP: usize = 8;
/// Least number of kills of a long run.
const KILLS: usize = 30;

/// Ways to build: every property, tag, and further step has lines in the journal.
const WAYS: [&[&str]; 2] = [
    &["--openstack-upload-method", "import", "--openstack-protected"],
    &["--openstack-upload-method", "put", "--openstack-if-exists", "hide"],
];

fn sandbox(cloud: &OpenStack, owner: (&str, &str), more: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::new();
    disk(&sandbox, 3, 1);
    sandbox.write("config.yml", &cloud.config(owner.0, owner.1, more));
    sandbox
}

fn command(sandbox: &Sandbox, more: &[&str]) -> Command {
    let words = ["--disk", "disk.raw", "-c", "config.yml", "-p", "openstack"];
    let mut build = sandbox.command(&[&words[..], &["--cloud-image-name", NAME], more].concat());
    build.stdout(Stdio::null()).stderr(Stdio::null());
    build
}

/// Removes everything that the host remembers.
fn forget(sandbox: &Sandbox) {
    for name in ["artifacts", "logs"] {
        let _ = fs::remove_dir_all(sandbox.path().join(name));
    }
}

/// Kills a build at a point of its journal, and forgets it; whether it came that far.
fn killed(sandbox: &Sandbox, more: &[&str], point: &str) -> bool {
    let mut build = command(sandbox, more);
    let was_killed = build.env("BUILD_IMAGE_FAILPOINT", point).status().unwrap().code().is_none();
    forget(sandbox);
    was_killed
}

/// Kills builds of each way; returns how many.
fn lose_builds(sandbox: &Sandbox) -> usize {
    let whole = std::env::var_os("BUILD_IMAGE_SOAK_OPENSTACK").is_some();
    let step = if whole { 1 } else { STEP };
    let mut kills = 0;
    for way in WAYS {
        for (turn, number) in (1..).step_by(step).enumerate() {
            let points = ["before", "after"].map(|when| format!("{when}:{number}"));
            // A short run tries one of the two.
            let points = if whole { &points[..] } else { &points[turn % 2..=turn % 2] };
            let all = points.iter().filter(|point| killed(sandbox, way, point)).count();
            kills += all;
            if all == 0 {
                break;
            }
        }
    }
    assert!(kills >= if whole { KILLS } else { 4 }, "{kills}");
    kills
}

/// Images of others that look like those of killed builds: of the same name, with marks of images that are complete, of a
/// run that is at work, or with inherited ones.
fn look_alikes(cloud: &OpenStack, owner: (&str, &str), number: u64) {
    let id = |last: u64| format!("5e000000-0000-4000-8000-00000000{number:02}{last:02}");
    let marks =
        |last: u64| json!({"id": id(last), "build_image_run": "run-1", "build_image_id": id(last)});
    foreign(cloud, owner, NAME, &json!({}));
    foreign(cloud, owner, NAME, &json!({"build_image_run": "run-1"}));
    let inherited = json!({
        "build_image_run": "run-1", "build_image_id": id(1), "build_image_lease": "5", "image_type": "snapshot",
    });
    foreign(cloud, owner, NAME, &inherited);
    foreign(cloud, owner, NAME, &marks(1));
    // A record without data, which a run claims until long after.
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let mut live = marks(2);
    live["name"] = NAME.into();
    live["build_image_run"] = "run-2".into();
    live["build_image_lease"] = (now + 100 * 3600).to_string().into();
    let (status, answer) = cloud.call(owner, "POST", "/v2/images", &live.to_string());
    assert_eq!(status, 201, "{answer}");
}

/// Whether an image is one that a build has not completed.
fn is_left(image: &Value) -> bool {
    image["build_image_id"] == image["id"]
        && image["build_image_run"] != "run-2"
        && (image["status"] != "active" || image.get("build_image_lease").is_some())
}

/// Files of images in the stores and in the staging area that no image has.
fn files_of(cloud: &OpenStack, ids: &[&str]) -> Vec<String> {
    let directory = Path::new(cloud.text("/directory"));
    let stores = ["fast", "slow", "os_glance_staging_store", "os_glance_tasks_store"];
    let files = stores.iter().flat_map(|store| fs::read_dir(directory.join(store)).unwrap());
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| ids.contains(&name.as_str())).collect()
}

/// Collects from another machine, which has no file of any build, by a clock.
fn collect(sandbox: &Sandbox, clock: &Clock, more: &[&str]) -> Run {
    let elsewhere = tempfile::tempdir().unwrap();
    let config = sandbox.path().join("config.yml");
    let words = ["gc", "--cloud", "-p", "openstack", "-c", config.to_str().unwrap()];
    let mut gc = sandbox.command(&[&words[..], more].concat());
    let here = elsewhere.path();
    gc.current_dir(here).env("HOME", here).env("XDG_STATE_HOME", here);
    Run::of(&clock.rules(&mut gc).output().unwrap(), None)
}

#[test]
fn what_lost_hosts_left_in_a_project_is_removed_beside_what_others_have() {
    let Some(cloud) = OpenStack::shared().filter(|_| needs(&["cc"])) else { return };
    let sandbox = sandbox(cloud, COLLECTED, &[]);
    build(&sandbox, "kept", &[]).succeeded();
    forget(&sandbox);
    look_alikes(cloud, COLLECTED, 1);
    let theirs = self::sandbox(cloud, NEIGHBOURS, &[]);
    look_alikes(cloud, NEIGHBOURS, 2);
    assert!(killed(&theirs, &[], "after:resource_created"));
    let images = |owner: (&str, &str)| cloud.images(NAME, owner.1);
    let (foreign, neighbours) = (images(COLLECTED), images(NEIGHBOURS));
    let kept = cloud.images("kept", COLLECTED.1);
    assert!(killed(&sandbox, &[], "after:resource_created"));
    let kills = lose_builds(&sandbox);
    let before = images(COLLECTED);
    let left: Vec<&Value> = before.iter().filter(|image| is_left(image)).collect();
    assert!(!left.is_empty(), "{before:#?}");
    let clock = Clock::new(sandbox.path().join("clock"));
    // What is claimed stays, however old it is; a dry run changes nothing.
    collect(&sandbox, &clock, &["--yes", "--older-than", "0s"]).succeeded();
    assert_eq!(images(COLLECTED), before);
    clock.jump(LATER);
    collect(&sandbox, &clock, &[]).succeeded();
    assert_eq!(images(COLLECTED), before);
    let swept = collect(&sandbox, &clock, &["--yes"]);
    swept.succeeded();
    assert!(swept.stdout.contains("run-2  stays: a build is at work"), "{}", swept.stdout);
    let after = images(COLLECTED);
    let complete: Vec<&Value> = before.iter().filter(|image| !is_left(image)).collect();
    assert_eq!(after.iter().collect::<Vec<_>>(), complete);
    for image in &foreign {
        let hidden = after.iter().find(|other| other["id"] == image["id"]);
        // Builds that were completed have hidden older images, as requested.
        let is_same = |name: &&String| !["os_hidden", "updated_at"].contains(&name.as_str());
        let members = |image: &Value| {
            let all = image.as_object().unwrap();
            all.iter()
                .filter(|(name, _)| is_same(name))
                .map(|(a, b)| (a.clone(), b.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(hidden.map(members), Some(members(image)));
    }
    let ids: Vec<&str> = left.iter().map(|image| image["id"].as_str().unwrap()).collect();
    until("the removal of the data", || files_of(cloud, &ids).is_empty());
    let again = collect(&sandbox, &clock, &["--yes"]);
    again.succeeded();
    assert!(again.stdout.contains("no unfinished build left anything"), "{}", again.stdout);
    assert_eq!(images(COLLECTED), after);
    assert_eq!((images(NEIGHBOURS), cloud.images("kept", COLLECTED.1)), (neighbours, kept));
    println!("{kills} kills, {} images removed", left.len());
}

/// Starts a build whose disk is sent slowly, and waits until it has its image.
fn uploading(cloud: &OpenStack, sandbox: &Sandbox, more: &[&str]) -> (Child, String) {
    let mut child = command(sandbox, more).spawn().unwrap();
    let mut id = String::new();
    until("the image", || {
        let receives = |image: &&Value| is_left(image);
        let images = cloud.images(NAME, WORKING.1);
        id = images
            .iter()
            .find(receives)
            .map_or_else(String::new, |image| image["id"].as_str().unwrap().to_owned());
        assert!(child.try_wait().unwrap().is_none(), "the build has ended");
        !id.is_empty()
    });
    (child, id)
}

#[test]
fn a_build_at_work_in_a_project_stays_until_its_claim_ends() {
    let Some(cloud) = OpenStack::shared().filter(|_| needs(&["cc"])) else { return };
    let mut options = Options::new(cloud.text("/image_url"));
    options.plain = true;
    let proxy = start(&options).unwrap();
    let slow = json!([{"method": "PUT", "fault": {"slow": 400_000}}]);
    proxy.set_rules(&slow.to_string()).unwrap();
    let url = proxy.url();
    let builder = sandbox(cloud, WORKING, &[("OPENSTACK_IMAGE_ENDPOINT", &url)]);
    let other = sandbox(cloud, WORKING, &[]);
    let clock = Clock::new(other.path().join("clock"));
    let now = ["--yes", "--older-than", "0s"];
    for method in ["import", "put"] {
        let (mut live, id) = uploading(cloud, &builder, &["--openstack-upload-method", method]);
        let mut times = 0;
        while live.try_wait().unwrap().is_none() {
            collect(&other, &clock, &now).succeeded();
            times += 1;
        }
        assert!(times > 0 && live.wait().unwrap().success(), "{method}: {times}");
        assert_eq!(cloud.image(&id)["status"], "active");
    }
    let (mut killed, id) = uploading(cloud, &builder, &["--openstack-upload-method", "import"]);
    killed.kill().unwrap();
    killed.wait().unwrap();
    for (ahead, stays) in [(0, true), (1800, true), (LATER, false)] {
        clock.jump(ahead);
        let run = collect(&other, &clock, &now);
        run.succeeded();
        let (status, _) = cloud.call(WORKING, "GET", &format!("/v2/images/{id}"), "");
        assert_eq!(status, if stays { 200 } else { 404 }, "{ahead}: {}", run.stdout);
    }
}
