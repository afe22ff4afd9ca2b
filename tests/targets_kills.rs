//! Kills a build with three targets at lines of its journals. It is resumed, and ends with one right image per target;
//! a target that was done is not touched.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use build_image_emulator_alibaba::Stored;
use serde_json::Value;

use crate::{
    build_openstack::disk,
    harness::{OpenStack, Sandbox, TinyIso, names, needs, needs_qemu, stand_in_qemu, tool, until},
    targets::two_buckets,
};

/// Size of a part, bytes.
const PART: u64 = 256 << 10;
/// One in this many lines is tried, all of them with BUILD_IMAGE_SOAK_TARGETS=1.
const STEP: u64 = 41;
/// The moments at a line.
const MOMENTS: [&str; 3] = ["before", "torn", "after"];
const BUILD: [&str; 4] = ["--disk", "disk.raw", "-c", "config.yml"];

/// A build for an emulator, a real Glance, and a file, whose servers are asked what they have.
struct Bench {
    cloud: &'static OpenStack,
    sandbox: Sandbox,
    state: tempfile::TempDir,
    /// Name of the image in Glance.
    name: String,
}

/// What the servers know of each target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    alibaba: usize,
    openstack: Vec<Value>,
    file: Option<(u64, i64, i64)>,
}

impl Bench {
    fn new(cloud: &'static OpenStack, name: &str) -> Self {
        let (sandbox, state) = Sandbox::with_kept_cloud();
        disk(&sandbox, 4, 2);
        let part = PART.to_string();
        let mut text = sandbox.config(&[("ALIBABA_UPLOAD_PART_SIZE", part.as_str())]);
        text.push_str(&cloud.config("builder", "builders", &[]));
        text.push_str(&format!(
            "targets:\n- provider: alibaba\n- provider: openstack\n  CLOUD_IMAGE_NAME: {name}\n- provider: qcow2\n  PACKAGE: none\n"
        ));
        sandbox.write("config.yml", &text);
        Self { cloud, sandbox, state, name: name.to_owned() }
    }

    /// Runs the build up to a line and kills it there; returns false when it ended earlier.
    fn is_killed(&self, when: &str, line: u64) -> bool {
        let mut command = self.sandbox.command(&BUILD);
        command.env("BUILD_IMAGE_FAILPOINT", format!("{when}:all:{line}"));
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.code().is_none_or(|code| code == 0), "{when} {line}: {status}");
        status.code().is_none()
    }

    fn file(&self) -> PathBuf {
        self.sandbox.path().join("images/disk.qcow2")
    }

    fn seen(&self) -> Seen {
        let log = fs::read_to_string(self.state.path().join("requests.jsonl")).unwrap_or_default();
        let file = fs::metadata(self.file()).ok();
        Seen {
            alibaba: log.lines().count(),
            openstack: self.cloud.images(&self.name, "builders"),
            file: file.map(|file| (file.ino(), file.mtime(), file.mtime_nsec())),
        }
    }

    /// Unfinished builds with several targets, and the number of runs.
    fn left(&self) -> (Vec<Value>, usize) {
        let output = self.sandbox.command(&["runs", "--json"]).output().unwrap();
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let list = |name: &str| listed[name].as_array().unwrap().clone();
        (list("groups"), list("runs").len())
    }

    /// Resumes the killed build, as a user would. Checks that targets which were done are not touched.
    #[track_caller]
    fn finish(&self, place: &str) {
        let (groups, runs) = self.left();
        assert!(groups.len() <= 1, "{place}: {groups:#?}");
        let before = self.seen();
        let Some(group) =
            groups.first().filter(|group| !group["targets"].as_array().unwrap().is_empty())
        else {
            // Killed before it recorded what it was to build, or when only directories were left to remove.
            assert_eq!(runs, 0, "{place}");
            self.sandbox.run(&["gc", "--yes"]).succeeded();
            if before.file.is_none() {
                self.sandbox.run(&BUILD).succeeded();
            }
            return;
        };
        let resume = || self.sandbox.run(&["resume", group["id"].as_str().unwrap()]);
        let mut run = resume();
        // A worker of Glance may still be busy with a request of the process that was killed.
        if run.code != 0 && run.stderr.contains("the cloud did not answer within") {
            run = resume();
        }
        assert_eq!(run.code, 0, "{place}\n{}", run.stderr);
        let after = self.seen();
        let is_done = |name: &str| {
            let targets = group["targets"].as_array().unwrap();
            targets.iter().any(|target| target["name"] == name && target["exit_code"] == 0)
        };
        if is_done("alibaba") {
            assert_eq!(
                before.alibaba, after.alibaba,
                "{place}: requests of a target that was done"
            );
        }
        if is_done("openstack") {
            assert_eq!(before.openstack, after.openstack, "{place}");
        }
        if is_done("qcow2") {
            assert_eq!(before.file, after.file, "{place}: the file of a target that was done");
        }
        for name in ["alibaba", "openstack", "qcow2"] {
            assert_eq!(run.member("targets")[name]["result"], "SUCCESS", "{place}: {name}");
        }
    }

    /// Checks for one right image per target and nothing else.
    #[track_caller]
    fn is_done(&self, place: &str) {
        let path = self.sandbox.path();
        assert!(!path.join("artifacts").exists(), "{place}: {:?}", self.sandbox.files());
        let raw = path.join("disk.raw");
        self.sandbox.cloud_has_only(1);
        let stored = Stored::open(&self.state.path().join("cloud")).unwrap();
        let exported = self.state.path().join("exported.raw");
        stored.export(&stored.images()[0].id, &exported).unwrap();
        assert!(fs::read(&exported).unwrap() == fs::read(&raw).unwrap(), "{place}");
        let images = self.cloud.images(&self.name, "builders");
        assert_eq!(images.len(), 1, "{place}: {images:#?}");
        self.cloud.holds(images[0]["id"].as_str().unwrap(), &raw);
        assert_eq!(
            names(&path.join("images")),
            ["disk.qcow2", "disk.qcow2.md5", "disk.qcow2.sha256"],
            "{place}"
        );
        compare(&raw, &self.file());
    }
}

#[track_caller]
fn compare(raw: &Path, image: &Path) {
    let files = [raw.to_str().unwrap(), image.to_str().unwrap()];
    let compare = ["qemu-img", "compare", "-f", "raw", "-F", "qcow2"];
    tool(raw.parent().unwrap(), &[&compare[..], &files].concat());
}

/// Runs a build and kills it at the first line that contains a text.
#[track_caller]
fn killed_at(sandbox: &Sandbox, text: &str, args: &[&str]) {
    let mut command = sandbox.command(args);
    command.env("BUILD_IMAGE_FAILPOINT", format!("after:{text}"));
    let output = command.output().unwrap();
    assert!(output.status.code().is_none(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_installed_disk_of_a_killed_build_serves_all_its_targets() {
    if !needs(&["xorriso", "mkfifo", "dd"]) {
        return;
    }
    let sandbox = Sandbox::with_cloud();
    TinyIso::base().write(&sandbox.path().join("base.iso"));
    stand_in_qemu(&sandbox);
    sandbox.write("config.yml", &two_buckets(&sandbox, &[]));
    let args = ["-i", "base.iso", "-m", "ltm", "-b", "1", "--qemu", "./qemu", "-c", "config.yml"];
    killed_at(&sandbox, "disk_installed", &args);
    let guests = || {
        let children = fs::read_to_string(sandbox.path().join("children")).unwrap();
        children.lines().filter(|line| *line == "-kernel").count()
    };
    let before = guests();
    let run = sandbox.run(&["resume"]);
    run.succeeded();
    assert!(before > 0 && guests() == before, "it was installed again: {}", run.stderr);
    sandbox.cloud_has_only(2);
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
}

#[test]
fn settings_that_change_what_is_built_are_refused_and_the_run_of_one_target_is_resumed_alone() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 4, 2);
    sandbox.write("config.yml", &two_buckets(&sandbox, &[]));
    let emulator = sandbox.emulator.as_ref().unwrap();
    let stall = r#"[{"operation":"UploadPart","action":{"stall_ms":600000}}]"#;
    emulator.set_faults(stall).unwrap();
    let mut command = sandbox.command(&BUILD);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("both uploads", || emulator.status()["open_uploads"].as_u64() == Some(2));
    child.kill().unwrap();
    child.wait().unwrap();
    emulator.set_faults("[]").unwrap();
    let group = || {
        let output = sandbox.command(&["runs", "--json"]).output().unwrap();
        let mut listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        listed["groups"][0].take()
    };
    let refused = sandbox.run(&["resume", "--disk-size", "1GiB"]);
    refused.failed(2, &["cannot be resumed with settings that change what it builds", "DISK_SIZE"]);
    sandbox.run(&["resume", "-p", "far"]).failed(2, &["cannot be changed"]);
    let far = group()["targets"][1]["run"].as_str().unwrap().to_owned();
    let run = sandbox.run(&["resume", &far]);
    run.failed(10, &["1 of 2 targets have no image: alibaba"]);
    assert_eq!(group()["targets"][1]["exit_code"], 0);
    let run = sandbox.run(&["resume"]);
    run.succeeded();
    assert_eq!(run.member("targets")["far"]["images"][0]["region"], "cn-beijing");
    sandbox.cloud_has_only(2);
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
}

#[test]
fn a_build_of_three_targets_killed_anywhere_ends_with_one_right_image_each() {
    let Some(cloud) = OpenStack::shared().filter(|_| needs_qemu()) else { return };
    let step = if std::env::var_os("BUILD_IMAGE_SOAK_TARGETS").is_some() { 1 } else { STEP };
    let mut points = 0;
    for (first, when) in (1..).zip(MOMENTS) {
        let mut line = if step == 1 { 1 } else { first * 5 };
        loop {
            let place = format!("{when} {line}");
            let bench = Bench::new(cloud, &format!("three-{when}-{line}"));
            if !bench.is_killed(when, line) {
                break;
            }
            bench.finish(&place);
            bench.is_done(&place);
            points += 1;
            line += step;
        }
    }
    println!("{points} kill points, 0 wrong images, 0 leftovers");
    assert!(points >= 60 / step, "only {points} kill points");
}
