//! Tests every edge between two states of a build, as far as the journal marks it, with what may happen there: the
//! process is killed, interrupted or terminated, the disk with its journal is full, or the clock is set; and every
//! request to the cloud, refused. Afterwards the run is resumed or collected.
//!
//! After each: exit code 0 means that the result is complete and equal to that of an undisturbed build; any other
//! means that every earlier output is what it was and nothing of the run is left, here or in the cloud.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use build_image_emulator_alibaba::Stored;
use serde_json::Value;

use crate::{
    concurrent_builds::{is_equal, unpacked},
    harness::{Clock, Run, Sandbox, names, needs, tool},
};

/// One point in so many is tried; all of them with BUILD_IMAGE_SOAK_SEAMS=1. Not a multiple of the numbers of
/// disturbances and of endings, so that each meets each.
const STEP: usize = 7;
/// What happens at a line of the journal, in the words of the crash points of debug builds.
const DISTURBANCES: [&str; 5] = ["after", "int", "term", "full", "clock"];
/// The builds: provider and further words.
const BUILDS: [&[&str]; 8] = [
    &["alibaba", "-c", "config.yml"],
    &["alibaba", "-c", "config.yml", "--no-upload"],
    &["qcow2"],
    &["vhd"],
    &["vmware"],
    &["aws", "--no-upload"],
    &["azure", "--no-upload"],
    &["gce", "--no-upload", "--disk-size", "1GiB"],
];
/// Content of every file of an earlier build.
const EARLIER: &str = "earlier";
/// The request of this number is refused, in the place of a disturbance at a line.
const REFUSED: &str = "refused";
/// Where the statement goes.
const STATEMENT: &str = "statement.json";

/// A build with a sandbox and a cloud of its own, in which an earlier build has published files of the same names.
struct Bench {
    words: &'static [&'static str],
    sandbox: Sandbox,
    state: tempfile::TempDir,
}

impl Bench {
    /// `published` are the names of the files that an earlier build left.
    fn new(words: &'static [&'static str], published: &[String]) -> Self {
        let (sandbox, state) = Sandbox::with_kept_cloud();
        sandbox.disk("disk.raw", 3, 1);
        for name in published {
            sandbox.write(&format!("images/{name}"), EARLIER);
        }
        sandbox.write(STATEMENT, EARLIER);
        Self { words, sandbox, state }
    }

    fn all_words(&self) -> Vec<&'static str> {
        [&["--disk", "disk.raw", "--provenance-file", STATEMENT, "-p"], self.words].concat()
    }

    fn is_cloud(&self) -> bool {
        self.words[0] == "alibaba" && !self.words.contains(&"--no-upload")
    }

    /// Requests that were made to the cloud.
    fn requests(&self) -> u64 {
        let log = fs::read_to_string(self.state.path().join("requests.jsonl")).unwrap_or_default();
        log.lines().count() as u64
    }

    /// Runs the build, disturbed at a line of its journal or at a request.
    fn disturbed(&self, what: &str, line: u64) -> Run {
        let emulator = self.sandbox.emulator.as_ref().unwrap();
        if what == REFUSED {
            let action = r#"{"status":403,"code":"Forbidden.RAM"}"#;
            let rule = format!(r#"[{{"operation":"*","nth":{line},"action":{action}}}]"#);
            emulator.set_faults(&rule).unwrap();
        }
        let mut command = self.sandbox.command(&self.all_words());
        command.env("BUILD_IMAGE_TRIAL_KILL", format!("{what}:{line}"));
        let clock = Clock::new(self.state.path().join("clock"));
        if what == "clock" {
            clock.rules(&mut command);
        }
        let run = Run::of(&command.stdin(Stdio::null()).output().unwrap(), None);
        emulator.set_faults("[]").unwrap();
        run
    }

    /// Names of what is in IMAGE_DIR.
    fn published(&self) -> Vec<String> {
        let images = self.sandbox.path().join("images");
        if images.is_dir() { names(&images) } else { Vec::new() }
    }

    /// Every earlier output is what it was, and nothing of the run is left.
    fn is_untouched(&self, earlier: &[String]) -> Result<(), String> {
        let found = self.published();
        if found != earlier {
            return Err(format!("IMAGE_DIR holds {found:?}"));
        }
        let mut outputs: Vec<PathBuf> =
            found.iter().map(|name| self.sandbox.path().join("images").join(name)).collect();
        outputs.push(self.sandbox.path().join(STATEMENT));
        for output in outputs {
            if fs::read(&output).unwrap() != EARLIER.as_bytes() {
                return Err(format!("`{}` is not what it was", output.display()));
            }
        }
        self.nothing_is_left(0)
    }

    /// The result is complete.
    fn is_complete(&self, expected: &[String]) -> Result<(), String> {
        let images = u64::from(self.is_cloud());
        self.nothing_is_left(images)?;
        let disk = self.sandbox.path().join("disk.raw");
        let text = fs::read(self.sandbox.path().join(STATEMENT)).unwrap();
        let statement: Value =
            serde_json::from_slice(&text).map_err(|error| format!("the statement: {error}"))?;
        let digest = statement["subject"][0]["digest"]["sha256"].as_str().unwrap_or_default();
        if self.is_cloud() {
            let stored = Stored::open(&self.state.path().join("cloud")).unwrap();
            let (list, exported) = (stored.images(), self.state.path().join("exported.raw"));
            stored.export(&list[0].id, &exported).unwrap();
            if fs::read(&exported).unwrap() != fs::read(&disk).unwrap() {
                return Err("the image is another disk".to_owned());
            }
            let named = &statement["subject"][0]["annotations"]["images"][0];
            return if *named == list[0].id.as_str() && digest.len() == 64 {
                Ok(())
            } else {
                Err(format!("the statement is about {named}"))
            };
        }
        let found = self.published();
        if found != expected {
            return Err(format!("IMAGE_DIR holds {found:?}, not {expected:?}"));
        }
        let directory = self.sandbox.path().join("images");
        let sum = found.iter().find(|name| name.ends_with(".sha256")).unwrap();
        tool(&directory, &["sha256sum", "--quiet", "-c", sum]);
        if !fs::read_to_string(directory.join(sum)).unwrap().starts_with(digest) {
            return Err("the statement is about another file".to_owned());
        }
        let image = directory.join(sum.strip_suffix(".sha256").unwrap());
        let whole = unpacked(&image, &self.state.path().join("unpacked"));
        let grown = self.grown(&disk);
        if is_equal(&grown, &whole) { Ok(()) } else { Err("the image is another disk".to_owned()) }
    }

    /// The disk with the size it is to have.
    fn grown(&self, disk: &Path) -> PathBuf {
        if !self.words.contains(&"--disk-size") {
            return disk.to_owned();
        }
        let grown = self.state.path().join("grown.raw");
        fs::copy(disk, &grown).unwrap();
        fs::File::options().write(true).open(&grown).unwrap().set_len(1 << 30).unwrap();
        grown
    }

    fn nothing_is_left(&self, images: u64) -> Result<(), String> {
        let status = self.sandbox.emulator.as_ref().unwrap().status();
        for (kind, wanted) in [
            ("objects", 0),
            ("open_uploads", 0),
            ("parts", 0),
            ("images", images),
            ("snapshots", images),
        ] {
            if status[kind] != wanted {
                return Err(format!("the cloud has {} {kind}, not {wanted}", status[kind]));
            }
        }
        if self.sandbox.path().join("artifacts").exists() {
            return Err(format!("files are left: {:?}", self.sandbox.files()));
        }
        Ok(())
    }

    fn runs(&self) -> Vec<Value> {
        let output = self.sandbox.command(&["runs", "--json"]).output().unwrap();
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        listed["runs"].as_array().unwrap().clone()
    }
}

/// What an undisturbed build publishes, how many lines its journal has, and how many requests it makes.
struct Undisturbed {
    published: Vec<String>,
    lines: u64,
    requests: u64,
}

fn undisturbed(words: &'static [&'static str]) -> Undisturbed {
    let bench = Bench::new(words, &[]);
    assert_eq!(bench.disturbed("after", 0).code, 0);
    let (published, requests) = (bench.published(), bench.requests());
    bench.is_complete(&published).unwrap();
    // The first line that no build comes to.
    let lines = (1..).find(|line| Bench::new(words, &[]).disturbed("after", *line).code == 0);
    Undisturbed { published, lines: lines.unwrap() - 1, requests }
}

/// One point: a build is disturbed at a line, then resumed or collected.
#[derive(Clone, Copy, Debug)]
struct Point {
    words: &'static [&'static str],
    what: &'static str,
    line: u64,
    resume: bool,
}

impl Point {
    /// What came of it: how the build ended, and how what followed did.
    fn judge(self, reference: &Undisturbed) -> Result<&'static str, String> {
        // A signature of an earlier image must not stay beside a new one.
        let image = reference.published.iter().find(|name| name.ends_with(".sha256"));
        let signature =
            image.map(|sum| format!("{}.384.sig", sum.strip_suffix(".sha256").unwrap()));
        let mut earlier: Vec<String> =
            reference.published.iter().cloned().chain(signature).collect();
        earlier.sort();
        let bench = Bench::new(self.words, &earlier);
        let complete = || bench.is_complete(&reference.published);
        let run = bench.disturbed(self.what, self.line);
        let failed = |what: String| format!("{self:?}, exit {}: {what}\n{}", run.code, run.stderr);
        if run.code == 0 {
            // What could not be removed after the release is listed, and known to the next clean-up.
            if run.stderr.contains("left behind: ") && self.what == REFUSED {
                bench.sandbox.run(&["gc", "--yes"]);
            }
            return complete().map(|()| "done").map_err(failed);
        }
        let runs = bench.runs();
        let Some(left) = runs.first() else {
            return bench.is_untouched(&earlier).map(|()| "undone").map_err(failed);
        };
        let id = left["id"].as_str().unwrap_or_default();
        if self.resume && left["platform"] != "" && left["state"] != "done" {
            let resumed = bench.sandbox.run(&["resume", id]);
            if resumed.code != 0 {
                return Err(failed(format!("resume: exit {}\n{}", resumed.code, resumed.stderr)));
            }
            return complete().map(|()| "resumed").map_err(failed);
        }
        let collected = bench.sandbox.run(&["gc", "--yes"]);
        if collected.code != 0 {
            return Err(failed(format!("gc: exit {}\n{}", collected.code, collected.stderr)));
        }
        let is_released =
            ["released", "notified"].contains(&left["reached"].as_str().unwrap_or_default());
        let end = if is_released { complete() } else { bench.is_untouched(&earlier) };
        end.map(|()| if is_released { "finished" } else { "collected" }).map_err(failed)
    }
}

#[test]
fn every_edge_between_two_states_ends_complete_or_without_a_trace() {
    if !needs(&["qemu-img", "tar", "unzip", "sha256sum", "cc"]) {
        return;
    }
    let step = if std::env::var_os("BUILD_IMAGE_SOAK_SEAMS").is_some() { 1 } else { STEP };
    let references = BUILDS.map(|words| (words, undisturbed(words)));
    let mut points = Vec::new();
    for (words, reference) in &references {
        for line in 1..=reference.lines {
            for what in DISTURBANCES {
                let point = |resume| Point { words, what, line, resume };
                points.push((point(true), reference));
                // Only what a kill leaves is resumed or collected; a signal is undone by the build itself.
                if what == "after" {
                    points.push((point(false), reference));
                }
            }
        }
    }
    for (words, reference) in &references {
        let refused = |line| Point { words, what: REFUSED, line, resume: true };
        points.extend((1..=reference.requests).map(|line| (refused(line), reference)));
    }
    let all = points.len();
    let points: Vec<_> = points.into_iter().step_by(step).collect();
    let (next, tally, wrong) =
        (AtomicUsize::new(0), Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((point, reference)) =
                    points.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    match point.judge(reference) {
                        Ok(end) => {
                            *tally.lock().unwrap().entry((point.what, end)).or_insert(0) += 1;
                        }
                        Err(what) => wrong.lock().unwrap().push(what),
                    }
                }
            });
        }
    });
    let (tally, wrong): (BTreeMap<_, u64>, Vec<String>) =
        (tally.into_inner().unwrap(), wrong.into_inner().unwrap());
    println!("{} of {all} points, {} violations: {tally:?}", points.len(), wrong.len());
    assert!(wrong.is_empty(), "{} violations\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(tally.len() >= 5, "{tally:?}");
}
