//! Kills builds, then lists, resumes or removes what is left.

use std::{
    fs,
    process::{Child, Stdio},
};

use build_image_emulator_alibaba::Stored;
use serde_json::Value;

use crate::harness::{Run, Sandbox, until};

/// Size of a part in these tests, bytes.
const PART: u64 = 128 << 10;
/// Maximum number of parts in flight.
const IN_FLIGHT: u64 = 32;

/// A sandbox whose cloud logs requests, and a disk of more than 200 parts.
struct Bench {
    sandbox: Sandbox,
    state: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let (sandbox, state) = Sandbox::with_kept_cloud();
        let size = PART.to_string();
        let config = sandbox.config(&[("ALIBABA_UPLOAD_PART_SIZE", &size)]);
        sandbox.write("config.yml", &config);
        sandbox.disk("disk.raw", 64, 26);
        Self { sandbox, state }
    }

    fn status(&self, kind: &str) -> u64 {
        self.sandbox.emulator.as_ref().unwrap().status()[kind].as_u64().unwrap()
    }

    fn start(&self) -> Child {
        let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];
        let mut command = self.sandbox.command(&args);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs until `enough` parts are stored or the process ends; then kills it.
    fn kill_after(&self, enough: u64) {
        let mut child = self.start();
        until("enough parts are stored, or the build ends", || {
            child.try_wait().unwrap().is_some() || self.status("parts") >= enough
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Runs that left something, as the tool lists them.
    fn runs(&self) -> Vec<Value> {
        let output = self.sandbox.command(&["runs", "--json"]).output().unwrap();
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        listed["runs"].as_array().unwrap().clone()
    }

    /// Bytes of parts that were stored and answered, over all processes.
    fn stored_bytes(&self) -> u64 {
        let log = fs::read_to_string(self.state.path().join("requests.jsonl")).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let parts = lines.filter(|line| line["operation"] == "UploadPart" && line["status"] == 200);
        parts.map(|line| line["bytes_in"].as_u64().unwrap()).sum()
    }

    /// The image in the cloud is the disk, and nothing else is left anywhere.
    #[track_caller]
    fn is_done(&self, run: &Run) {
        run.succeeded();
        self.sandbox.cloud_has_only(1);
        assert!(!self.sandbox.path().join("artifacts").exists(), "{:?}", self.sandbox.files());
        let image = run.member("image_id").as_str().unwrap();
        let exported = self.state.path().join("exported.raw");
        Stored::open(&self.state.path().join("cloud")).unwrap().export(image, &exported).unwrap();
        assert_eq!(
            fs::read(&exported).unwrap(),
            fs::read(self.sandbox.path().join("disk.raw")).unwrap()
        );
    }
}

#[test]
fn a_build_killed_at_any_moment_of_its_upload_is_resumed_where_it_was() {
    let (mut random, mut most, mut killed_in_upload) = (0x2545_f491_u64, 0, 0);
    for round in 0..50 {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bench = Bench::new();
        // The last parts are left out: a build that is done before it is killed proves nothing.
        bench.kill_after((random >> 33) % 190);
        let runs = bench.runs();
        let run = match runs.first() {
            Some(run) => bench.sandbox.run(&["resume", run["id"].as_str().unwrap()]),
            // Killed before it recorded anything, or done already: there is nothing to resume.
            None if bench.status("images") == 1 => continue,
            None => bench.sandbox.run(&["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"]),
        };
        bench.is_done(&run);
        let length = run.member("image_length").as_u64().unwrap();
        assert!(length.div_ceil(PART) >= 200, "the upload has {} parts", length.div_ceil(PART));
        let again = bench.stored_bytes().saturating_sub(length);
        assert!(again <= IN_FLIGHT * PART, "round {round}: {again} bytes were sent again");
        most = most.max(again);
        killed_in_upload += u64::from(!runs.is_empty());
    }
    assert!(killed_in_upload >= 40, "only {killed_in_upload} of 50 were killed in time");
    println!(
        "50 kills, {killed_in_upload} resumed, at most {} parts sent again",
        most.div_ceil(PART)
    );
}

#[test]
fn what_a_killed_build_left_is_listed_and_removed() {
    let bench = Bench::new();
    bench.kill_after(20);
    let runs = bench.runs();
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (runs[0]["state"].as_str(), runs[0]["step"].as_str()),
        (Some("dead"), Some("upload"))
    );
    let kinds: Vec<&str> = runs[0]["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["oss_object", "multipart_upload"]);

    let listing = bench.sandbox.command(&["gc"]).output().unwrap();
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    assert!(
        listing.contains("multipart_upload") && listing.contains("nothing was removed"),
        "{listing}"
    );
    assert_eq!(bench.status("open_uploads"), 1);

    let done = bench.sandbox.command(&["gc", "--yes"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    bench.sandbox.cloud_has_only(0);
    assert!(bench.runs().is_empty());
    assert!(!bench.sandbox.path().join("artifacts").exists());
}

/// What the user leaves in the cloud on purpose, such as another user's resource, is not asked for again.
#[test]
fn a_run_is_forgotten_by_its_name_alone() {
    let bench = Bench::new();
    for _ in 0..2 {
        bench.kill_after(bench.status("parts") + 20);
    }
    let runs = bench.runs();
    let ids: Vec<&str> = runs.iter().map(|run| run["id"].as_str().unwrap()).collect();
    let [first, second] = ids[..] else { panic!("{runs:#?}") };
    let gc = |words: &[&str]| bench.sandbox.run(&[&["gc"], words].concat());
    gc(&["--forget", "r-1", "--yes"]).failed(2, &["no run `r-1` was found"]);
    gc(&["--forget", first, "--adopt", first]).failed(2, &["--adopt"]);
    let preview = gc(&["--forget", first]);
    preview.succeeded();
    assert!(preview.stdout.contains("multipart_upload"), "{}", preview.stdout);
    assert!(preview.stdout.contains("give --yes to forget the run"), "{}", preview.stdout);
    // Two of them, as they were: only how long they have been idle may have grown.
    let ageless = |runs: Vec<Value>| -> Vec<Value> {
        let without_age = |mut run: Value| {
            run["idle_seconds"].take();
            run
        };
        runs.into_iter().map(without_age).collect()
    };
    assert_eq!(ageless(bench.runs()), ageless(runs.clone()));

    let done = gc(&["--forget", first, "--yes"]);
    done.succeeded();
    assert!(done.stdout.contains("forgotten; what it lists stays"), "{}", done.stdout);
    let left: Vec<Value> = bench.runs();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["id"], second);
    assert_eq!(bench.status("open_uploads"), 2);
    // Without the settings of the build, forgetting it is all that is left.
    let [config, away] = ["config.yml", "away.yml"].map(|name| bench.sandbox.path().join(name));
    fs::rename(&config, &away).unwrap();
    let refused = gc(&["--yes"]);
    assert_eq!((refused.code, bench.runs().len()), (2, 1), "{}", refused.stderr);
    assert!(refused.stderr.contains(&format!("gc --forget {second} --yes")), "{}", refused.stderr);
    fs::rename(&away, &config).unwrap();
    gc(&["--yes"]).succeeded();
    assert_eq!((bench.status("open_uploads"), bench.runs().len()), (1, 0));
    assert!(!bench.sandbox.path().join("artifacts").exists());
}

#[test]
fn a_failed_build_can_be_kept_and_resumed() {
    let bench = Bench::new();
    let emulator = bench.sandbox.emulator.as_ref().unwrap();
    let refuse = r#"[{"operation":"ImportImage","nth":2,"action":{"status":403,"code":"QuotaExceed.Image"}}]"#;
    emulator.set_faults(refuse).unwrap();
    let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba", "--on-failure", "keep"];
    let run = bench.sandbox.run(&args);
    run.failed(6, &["QuotaExceed.Image", "continue it with: build-image resume"]);
    assert_eq!(bench.status("objects"), 1, "the upload was kept");
    let sent = bench.stored_bytes();
    emulator.set_faults("[]").unwrap();
    // The run needs no name when it is the only one.
    let run = bench.sandbox.run(&["resume"]);
    bench.is_done(&run);
    assert_eq!(bench.stored_bytes(), sent, "nothing was sent again");
    bench.sandbox.run(&["resume"]).failed(2, &["can be resumed", "--artifacts-dir"]);
    let help = bench.sandbox.run(&["resume", "--help"]);
    assert!(help.stdout.contains("Usage: build-image resume [OPTIONS] [RUN]"), "{}", help.stdout);
}

/// What `gc` has begun to remove is not the result of a run that is then resumed.
#[test]
fn a_run_that_a_clean_up_has_removed_in_part_is_made_again() {
    let bench = Bench::new();
    let emulator = bench.sandbox.emulator.as_ref().unwrap();
    let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];
    let mut command = bench.sandbox.command(&args);
    command.env("BUILD_IMAGE_FAILPOINT", r#"after:"step":"register","facts""#);
    assert_eq!(command.output().unwrap().status.code(), None);
    assert_eq!(bench.status("images"), 1);
    let refuse = r#"[{"operation":"DeleteObject","action":{"status":403,"code":"AccessDenied"}}]"#;
    emulator.set_faults(refuse).unwrap();
    let cleaned = bench.sandbox.run(&["gc", "--yes"]);
    assert_eq!(cleaned.code, 8, "{}", cleaned.stderr);
    assert_eq!((bench.status("images"), bench.runs().len()), (0, 1), "{}", cleaned.stderr);
    emulator.set_faults("[]").unwrap();
    bench.is_done(&bench.sandbox.run(&["resume"]));
}

#[test]
fn a_run_at_work_is_neither_resumed_nor_forgotten() {
    let bench = Bench::new();
    let emulator = bench.sandbox.emulator.as_ref().unwrap();
    let stall = r#"[{"operation":"UploadPart","nth":3,"action":{"stall_ms":600000}}]"#;
    emulator.set_faults(stall).unwrap();
    let mut child = bench.start();
    until("a part", || emulator.wait_for_fault(std::time::Duration::from_millis(1)));
    let runs = bench.runs();
    assert_eq!(runs[0]["state"], "running", "{runs:#?}");
    let id = runs[0]["id"].as_str().unwrap();
    let run = bench.sandbox.run(&["resume", id]);
    run.failed(7, &[id, "a process is at work with it", "hint: wait"]);
    bench
        .sandbox
        .run(&["gc", "--forget", id, "--yes"])
        .failed(7, &["a process is at work with run"]);
    bench.sandbox.run(&["gc", "--yes"]).succeeded();
    assert_eq!(bench.runs().len(), 1);
    // Before the last part is let through.
    child.kill().unwrap();
    child.wait().unwrap();
    emulator.set_faults("[]").unwrap();
    bench.is_done(&bench.sandbox.run(&["resume", id]));
}

#[test]
fn a_run_of_another_disk_is_not_resumed() {
    let bench = Bench::new();
    bench.sandbox.run(&["resume", "absent"]).failed(2, &["cannot find run `absent`", "hint:"]);
    bench.kill_after(20);
    let id = bench.runs()[0]["id"].as_str().unwrap().to_owned();
    bench.kill_after(60);
    bench.sandbox.run(&["resume"]).failed(2, &["there are several", &id]);
    bench.sandbox.disk("disk.raw", 65, 26);
    bench.sandbox.run(&["resume", &id]).failed(2, &[&id, "are not those it was started with"]);
}
