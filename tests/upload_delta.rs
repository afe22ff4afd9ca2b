//! Uploads a disk of which the bucket has an earlier version: measures what is sent by the emulator's request log, kills
//! the build at the lines of its journal, and resumes or removes it.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use build_image_emulator_alibaba::Stored;
use serde_json::Value;

use crate::harness::{Run, Sandbox};

const MIB: u64 = 1 << 20;
/// Size of a block of a small disk, in bytes.
const BLOCK: u64 = 128 << 10;
/// One in this many lines is tried, all of them with BUILD_IMAGE_SOAK_KILLS=1.
const STEP: u64 = 3;

/// A sandbox whose bucket has a kept disk; the disk was changed since.
struct Bench {
    sandbox: Sandbox,
    state: tempfile::TempDir,
}

impl Bench {
    /// Builds a disk and keeps it; `change` changes the file of the disk, whose length in MiB is given.
    fn new(mib: u64, change: impl FnOnce(&fs::File)) -> Self {
        let (sandbox, state) = Sandbox::with_kept_cloud();
        let changes = [
            ("ALIBABA_DISK_FORMAT", "raw"),
            ("ALIBABA_KEEP_OSS_OBJECT", "true"),
            ("ALIBABA_UPLOAD_PART_SIZE", "1MiB"),
            ("ALIBABA_THREAD_COUNT", "4"),
            ("CLOUD_IMAGE_NAME", "first"),
        ];
        sandbox.write("config.yml", &sandbox.config(&changes));
        let disk = sandbox.disk("disk.raw", mib, mib / 2);
        let bench = Self { sandbox, state };
        bench.run(&bench.words()).succeeded();
        bench.has(2, 1);
        let second = [&changes[..4], &[("CLOUD_IMAGE_NAME", "second")]].concat();
        bench.sandbox.write("config.yml", &bench.sandbox.config(&second));
        change(&OpenOptions::new().write(true).open(disk).unwrap());
        fs::write(bench.log(), "").unwrap();
        bench
    }

    fn words(&self) -> [&'static str; 6] {
        ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"]
    }

    fn run(&self, words: &[&str]) -> Run {
        self.sandbox.run(words)
    }

    fn log(&self) -> std::path::PathBuf {
        self.state.path().join("requests.jsonl")
    }

    fn command(&self) -> Command {
        let mut command = self.sandbox.command(&self.words());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Calls of an operation that were answered: their number, and the bytes they brought.
    fn calls(&self, operation: &str) -> (u64, u64) {
        let text = fs::read_to_string(self.log()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lines = lines.filter(|line| line["operation"] == operation && line["status"] == 200);
        lines.fold((0, 0), |(number, bytes), line| {
            (number + 1, bytes + line["bytes_in"].as_u64().unwrap())
        })
    }

    /// Checks the number of objects and images, and that no upload is unfinished.
    #[track_caller]
    fn has(&self, objects: u64, images: u64) {
        let status = self.sandbox.emulator.as_ref().unwrap().status();
        let found = (&status["objects"], &status["images"], &status["open_uploads"]);
        assert_eq!(found, (&objects.into(), &images.into(), &0.into()), "{status}");
    }

    /// Checks that the image of the second build is the disk.
    #[track_caller]
    fn is_right(&self) {
        let stored = Stored::open(&self.state.path().join("cloud")).unwrap();
        let image = stored.images().into_iter().find(|image| image.name == "second").unwrap();
        let exported = self.state.path().join("exported.raw");
        stored.export(&image.id, &exported).unwrap();
        let read = |path: &Path| fs::read(path).unwrap();
        assert!(read(&exported) == read(&self.sandbox.path().join("disk.raw")), "another disk");
    }

    fn runs(&self) -> Vec<Value> {
        let output = self.sandbox.command(&["runs", "--json"]).output().unwrap();
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        listed["runs"].as_array().unwrap().clone()
    }
}

/// Changes a hundredth of a disk in five runs.
fn in_five_runs(disk: &fs::File, mib: u64) {
    let length = mib * MIB;
    let bytes = vec![0x5a; usize::try_from(length / 500).unwrap()];
    for run in 0..5 {
        disk.write_all_at(&bytes, length / 5 * run + 7777).unwrap();
    }
}

#[test]
fn a_disk_of_which_a_hundredth_has_changed_is_sent_to_three_hundredths_at_most() {
    let bench = Bench::new(512, |disk| in_five_runs(disk, 512));
    let output =
        bench.sandbox.command(&[&["plan", "--check"], &bench.words()[..]].concat()).output();
    let plan = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(plan.contains("only what differs from `build-image-"), "{plan}");
    let run = bench.run(&bench.words());
    run.succeeded();
    assert!(run.stderr.contains("MiB are unchanged since"), "{}", run.stderr);
    bench.is_right();
    bench.has(4, 2);
    let (parts, sent) = bench.calls("UploadPart");
    let (copies, _) = bench.calls("UploadPartCopy");
    let percent = sent as f64 * 100.0 / (512 * MIB) as f64;
    println!("512 MiB: {sent} bytes ({percent:.2} %) in {parts} parts sent, {copies} parts copied");
    assert!(sent > 0 && sent * 100 <= 512 * MIB * 3, "{percent} % was sent");
    // Manifests belong to complete builds: nothing sweeps them, and nothing takes them for another's.
    let sweep = bench.run(&[
        "gc",
        "--cloud",
        "--older-than",
        "0s",
        "--yes",
        "-c",
        "config.yml",
        "-p",
        "alibaba",
    ]);
    sweep.succeeded();
    bench.has(4, 2);
}

/// A build that is killed, and what it is allowed to repeat.
fn try_line(when: &str, line: u64, expected: (u64, u64)) -> Option<&'static str> {
    let bench = Bench::new(8, |disk| {
        for block in [3, 20, 40] {
            disk.write_all_at(b"changed", block * BLOCK + 9).unwrap();
        }
    });
    let place = format!("{when}:{line}");
    let status = bench.command().env("BUILD_IMAGE_FAILPOINT", &place).status().unwrap();
    if status.code().is_some() {
        return None;
    }
    let runs = bench.runs();
    let unfinished = runs.iter().find(|run| run["state"] != "done" && run["platform"] != "");
    if line % 4 == 1 {
        // Removed as a user would: the base and its manifest stay.
        bench.run(&["gc", "--yes"]).succeeded();
        let status = bench.sandbox.emulator.as_ref().unwrap().status();
        let complete = status["images"] == 2;
        bench.has(if complete { 4 } else { 2 }, if complete { 2 } else { 1 });
        return Some("removed");
    }
    match unfinished {
        Some(run) => {
            bench.run(&["resume", run["id"].as_str().unwrap()]).succeeded();
        }
        None => {
            bench.run(&["gc", "--yes"]).succeeded();
            if bench.sandbox.emulator.as_ref().unwrap().status()["images"] != 2 {
                bench.run(&bench.words()).succeeded();
            }
        }
    }
    bench.is_right();
    bench.has(4, 2);
    let calls = (bench.calls("UploadPart").0, bench.calls("UploadPartCopy").0);
    // Calls that were in flight when the process ended are repeated: at most as many as there are threads.
    assert!(calls.0 + calls.1 <= expected.0 + expected.1 + 4, "{place}: {calls:?}, {expected:?}");
    Some(if unfinished.is_some() { "resumed" } else { "built again" })
}

#[test]
fn a_build_killed_at_any_line_of_its_journal_makes_one_right_image_and_repeats_nothing() {
    let reference = Bench::new(8, |disk| {
        for block in [3, 20, 40] {
            disk.write_all_at(b"changed", block * BLOCK + 9).unwrap();
        }
    });
    let lines = reference.sandbox.journal_lines(&mut reference.command());
    let expected = (reference.calls("UploadPart").0, reference.calls("UploadPartCopy").0);
    assert!(expected.0 == 3 && expected.1 > 0, "{expected:?}");
    let step = if std::env::var_os("BUILD_IMAGE_SOAK_KILLS").is_some() { 1 } else { STEP };
    let places: Vec<(&str, u64)> = ["before", "torn", "after"]
        .into_iter()
        .zip(1..)
        .flat_map(|(when, first)| {
            (1..=lines).filter(move |line| (line + first) % step == 0).map(move |line| (when, line))
        })
        .collect();
    let (next, tally) = (AtomicU64::new(0), Mutex::new(BTreeMap::<&str, u64>::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(&(when, line)) =
                    usize::try_from(next.fetch_add(1, Ordering::Relaxed))
                        .ok()
                        .and_then(|n| places.get(n))
                {
                    let end = try_line(when, line, expected).unwrap_or("not killed");
                    *tally.lock().unwrap().entry(end).or_default() += 1;
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!("{lines} lines, {} places: {tally:?}", places.len());
    assert!(tally.get("resumed").copied().unwrap_or(0) * 3 >= places.len() as u64, "{tally:?}");
}
