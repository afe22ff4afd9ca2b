//! Kills the process of a build at every line of its journal (before, in the middle of and after it), at every
//! request (before and after its effect in the cloud) and around every guest. Each build is resumed, and ends as
//! one right image with nothing else left.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use build_image_emulator_alibaba::Stored;
use serde_json::Value;

use crate::harness::{
    QEMU_WROTE, Sandbox, TinyIso, killed_at_effect, names, needs, stand_in_qemu, tool,
};

/// Size of a part, bytes.
const PART: u64 = 128 << 10;
/// One in this many places of each kind is tried, all of them with BUILD_IMAGE_SOAK_KILLS=1. The series start at different
/// numbers: together they try every line of a journal once.
const STEP: u64 = 3;
/// Maximum number of parts in flight.
const IN_FLIGHT: u64 = 4;
/// The input and output of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Build {
    /// A disk becomes an image in the cloud.
    Upload,
    /// A disk becomes an encrypted image in the cloud: a copy of what was imported.
    Encrypted,
    /// An ISO becomes an image in the cloud.
    Install,
    /// A disk becomes a package for the cloud.
    Package,
    /// A disk becomes an OVA file.
    Appliance,
}

impl Build {
    fn words(self) -> Vec<&'static str> {
        let cloud = ["-c", "config.yml", "-p", "alibaba"];
        let disk = ["--disk", "disk.raw"];
        match self {
            Self::Upload | Self::Encrypted => [&disk[..], &cloud].concat(),
            Self::Install => {
                let iso = ["-i", "base.iso", "-m", "ltm", "-b", "1", "--qemu", "./qemu"];
                [&iso[..], &cloud].concat()
            }
            Self::Package => [&disk[..], &cloud, &["--no-upload"]].concat(),
            Self::Appliance => [&disk[..], &["-p", "vmware"]].concat(),
        }
    }
}

/// Where the process is killed.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// At a line of the journal that this process writes, in the syntax of the debug build's crash point.
    Line(&'static str, u64),
    /// After this many requests: before the last one is served, or after it, unanswered.
    Request(&'static str, u64),
    /// When a guest waits.
    Guest(&'static str),
    /// Before or after this many changes of names and lengths of files; with the kind of the point.
    Effect(&'static str, u64),
}

impl Place {
    fn kind(&self) -> String {
        match self {
            Self::Line(when, _) => format!("journal line, {when}"),
            Self::Request("stall_ms", _) => "request, not yet served".to_owned(),
            Self::Request(..) => "request, served and unanswered".to_owned(),
            Self::Guest(when) => format!("guest, {when}"),
            Self::Effect(when, _) => format!("file effect, {when}"),
        }
    }
}

/// One build with a separate cloud.
pub(crate) struct Bench {
    build: Build,
    pub(crate) sandbox: Sandbox,
    state: tempfile::TempDir,
    /// The killed build was removed: the next build sends everything again.
    forgotten: Cell<bool>,
}

impl Bench {
    pub(crate) fn new(build: Build) -> Self {
        let (sandbox, state) = Sandbox::with_kept_cloud();
        let (size, threads) = (PART.to_string(), IN_FLIGHT.to_string());
        let sizes =
            [("ALIBABA_UPLOAD_PART_SIZE", size.as_str()), ("ALIBABA_THREAD_COUNT", &threads)];
        let key =
            [("ALIBABA_IMAGE_KEY", "key-1")].into_iter().filter(|_| build == Build::Encrypted);
        let config = sandbox.config(&sizes.into_iter().chain(key).collect::<Vec<_>>());
        sandbox.write("config.yml", &config);
        if build == Build::Install {
            TinyIso::base().write(&sandbox.path().join("base.iso"));
            stand_in_qemu(&sandbox);
        } else {
            sandbox.disk("disk.raw", 4, 2);
        }
        Self { build, sandbox, state, forgotten: Cell::new(false) }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = self.sandbox.command(&self.build.words());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Runs the build up to a place and kills it there; returns false when it ended earlier.
    fn killed_at(&self, place: &Place) -> bool {
        let emulator = self.sandbox.emulator.as_ref().unwrap();
        let mut command = self.command();
        match place {
            Place::Line(when, number) => {
                let status = command.env("BUILD_IMAGE_FAILPOINT", format!("{when}:{number}"));
                return status.status().unwrap().code().is_none();
            }
            Place::Request(what, nth) => {
                let rule =
                    format!(r#"[{{"operation":"*","nth":{nth},"action":{{"{what}":600000}}}}]"#);
                emulator.set_faults(&rule).unwrap();
            }
            Place::Guest(when) => drop(self.sandbox.write(&format!("hold.{when}"), "")),
            Place::Effect(when, number) => return self.killed_at_effect(when, *number).0,
        }
        let mut child = command.spawn().unwrap();
        let held = self.sandbox.path().join("held");
        let killed = loop {
            if emulator.wait_for_fault(Duration::from_millis(5)) || held.exists() {
                child.kill().unwrap();
                break true;
            }
            if child.try_wait().unwrap().is_some() {
                break false;
            }
        };
        child.wait().unwrap();
        emulator.set_faults("[]").unwrap();
        if let Place::Guest(when) = place {
            fs::remove_file(self.sandbox.path().join(format!("hold.{when}"))).unwrap();
        }
        killed
    }

    /// Runs the build up to an effect and kills it there; returns whether it reached the effect, and its effects.
    pub(crate) fn killed_at_effect(&self, when: &str, number: u64) -> (bool, Vec<String>) {
        let log = self.state.path().join("effects");
        killed_at_effect(&self.command(), self.sandbox.path(), (when, number), &log)
    }

    /// Runs that left something, as the tool lists them.
    fn runs(&self) -> Vec<Value> {
        let output = self.sandbox.command(&["runs", "--json"]).output().unwrap();
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        listed["runs"].as_array().unwrap().clone()
    }

    /// Removes what the killed build left, as a user would; then nothing of it exists except a complete image, if
    /// the build had finished it.
    #[track_caller]
    pub(crate) fn forget(&self, place: &Place) {
        self.forgotten.set(true);
        self.sandbox.run(&["gc", "--yes"]).succeeded();
        let files = self.sandbox.files();
        let left: Vec<_> = files.iter().filter(|name| name.starts_with("artifacts")).collect();
        assert!(left.is_empty(), "{:?} {place:?}: {left:?}", self.build);
        self.sandbox.cloud_has_only(u64::from(self.is_in_cloud()));
        let images = self.sandbox.path().join("images");
        let published = if images.is_dir() { names(&images) } else { Vec::new() };
        // An image that has its name is complete and belongs to the user; nothing removes it.
        let whole = |name: &String| !name.starts_with('.') && !name.ends_with(".part");
        assert!(published.iter().all(whole), "{:?} {place:?}: {published:?}", self.build);
    }

    /// Resumes the killed build, as a user would; returns whether there was a run to resume.
    #[track_caller]
    pub(crate) fn finish(&self, place: &Place) -> bool {
        let runs = self.runs();
        assert!(runs.len() <= 1, "{runs:#?}");
        let state = |run: &Value| (run["state"] == "done", run["platform"] != "");
        let (args, resumed) = match runs.first().map(state) {
            Some((false, true)) => (vec!["resume", runs[0]["id"].as_str().unwrap()], true),
            Some((done, _)) => {
                // Done, or killed before it recorded what it was to build: only its directory is left.
                self.sandbox.run(&["gc", "--yes"]).succeeded();
                if done {
                    return false;
                }
                (self.build.words(), false)
            }
            None if self.is_there() => {
                // Killed when the image existed and only empty directories were left to remove.
                self.sandbox.run(&["gc", "--yes"]).succeeded();
                return false;
            }
            None => (self.build.words(), false),
        };
        let run = self.sandbox.run(&args);
        assert_eq!(run.code, 0, "{:?} {place:?}\n{}", self.build, run.stderr);
        resumed
    }

    /// Whether the expected output exists.
    fn is_there(&self) -> bool {
        match self.build {
            Build::Upload | Build::Encrypted | Build::Install => self.is_in_cloud(),
            Build::Package | Build::Appliance => {
                let images = self.sandbox.path().join("images");
                let visible = |name: &String| !name.starts_with('.');
                images.is_dir() && names(&images).into_iter().filter(visible).count() == 3
            }
        }
    }

    fn is_in_cloud(&self) -> bool {
        let is_there = self.sandbox.emulator.as_ref().unwrap().status()["images"] == 1;
        is_there && (self.build != Build::Encrypted || self.is_encrypted())
    }

    /// Whether all images of the account are encrypted and have their names.
    fn is_encrypted(&self) -> bool {
        let words = ["images", "list", "--all", "--json", "-c", "config.yml", "-p", "alibaba"];
        let listed = self.sandbox.run(&words);
        let listed: Value = serde_json::from_str(&listed.succeeded().stdout).unwrap();
        let images =
            listed["items"].as_array().unwrap().iter().filter(|one| one["kind"] == "image");
        images.into_iter().all(|image| {
            let is_whole = image["attributes"]["kms_key"] == "key-1";
            is_whole && !image["name"].as_str().unwrap().contains("-plain-")
        })
    }

    /// Checks for one right image and nothing else. Returns the number of bytes that were sent more than once.
    #[track_caller]
    pub(crate) fn is_done(&self, place: &Place) -> u64 {
        let sandbox = &self.sandbox;
        assert!(!sandbox.path().join("artifacts").exists(), "{place:?}: {:?}", sandbox.files());
        let package = match self.build {
            Build::Upload | Build::Encrypted | Build::Install => {
                sandbox.cloud_has_only(1);
                assert!(self.is_in_cloud(), "{place:?}: the image is not encrypted");
                let exported = self.state.path().join("exported.raw");
                let stored = Stored::open(&self.state.path().join("cloud")).unwrap();
                let image = &stored.images()[0];
                stored.export(&image.id, &exported).unwrap();
                self.holds_what_was_built(&exported);
                return self.sent_again(place);
            }
            Build::Package => "disk.alibaba.tar.gz",
            Build::Appliance => "disk.vmware.ova",
        };
        let images = sandbox.path().join("images");
        let sums = [format!("{package}.md5"), format!("{package}.sha256")];
        assert_eq!(names(&images), [package, &sums[0], &sums[1]], "{:?} {place:?}", self.build);
        tool(&images, &["sha256sum", "--quiet", "-c", &sums[1]]);
        sandbox.cloud_has_only(0);
        0
    }

    /// Bytes of parts that were stored more than once, over all processes.
    #[track_caller]
    fn sent_again(&self, place: &Place) -> u64 {
        let mut largest: BTreeMap<u64, u64> = BTreeMap::new();
        let mut sum = 0;
        let log = fs::read_to_string(self.state.path().join("requests.jsonl")).unwrap_or_default();
        for line in log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            if line["operation"] == "UploadPart" && line["status"] == 200 {
                let (part, bytes) = (&line["part_number"], &line["bytes_in"]);
                let (part, bytes) = (part.as_u64().unwrap(), bytes.as_u64().unwrap());
                largest.entry(part).and_modify(|most| *most = bytes.max(*most)).or_insert(bytes);
                sum += bytes;
            }
        }
        let again = sum - largest.values().sum::<u64>();
        assert!(
            self.forgotten.get() || again <= IN_FLIGHT * PART,
            "{place:?}: {again} bytes were sent again"
        );
        again
    }

    #[track_caller]
    fn holds_what_was_built(&self, exported: &Path) {
        if self.build != Build::Install {
            let disk = fs::read(self.sandbox.path().join("disk.raw")).unwrap();
            assert!(fs::read(exported).unwrap() == disk, "the image is another disk");
            return;
        }
        let file = File::open(exported).unwrap();
        for (text, length, place) in QEMU_WROTE {
            let mut found = vec![0; length];
            file.read_exact_at(&mut found, place).unwrap();
            let expected: Vec<u8> = text.bytes().cycle().take(length).collect();
            assert!(found == expected, "`{}` is not on the disk", text.trim_end());
        }
    }
}

/// The outcome of the kills at one kind of place.
#[derive(Default)]
struct Tally {
    points: u64,
    resumed: u64,
    sent_again: u64,
}

fn step() -> u64 {
    if std::env::var_os("BUILD_IMAGE_SOAK_KILLS").is_some() { 1 } else { STEP }
}

/// Kills a build at one place after the other, until the build ends first.
fn series(build: Build, first: u64, place: impl Fn(u64) -> Place + Sync, tally: &Mutex<Matrix>) {
    let step = step();
    let next = AtomicU64::new(if step == 1 { 1 } else { first });
    let end = AtomicU64::new(u64::MAX);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(step, Ordering::Relaxed);
                    if number >= end.load(Ordering::Relaxed) || !point(build, &place(number), tally)
                    {
                        end.fetch_min(number, Ordering::Relaxed);
                        break;
                    }
                }
            });
        }
    });
}

type Matrix = BTreeMap<(Build, String), Tally>;

/// Kills a build once and completes it; returns false when the build ended before it reached the place.
fn point(build: Build, place: &Place, tally: &Mutex<Matrix>) -> bool {
    let bench = Bench::new(build);
    if !bench.killed_at(place) {
        return false;
    }
    let resumed = bench.finish(place);
    let again = bench.is_done(place);
    let mut matrix = tally.lock().unwrap();
    let row = matrix.entry((build, place.kind())).or_default();
    row.points += 1;
    row.resumed += u64::from(resumed);
    row.sent_again = row.sent_again.max(again);
    true
}

#[test]
fn a_build_killed_anywhere_becomes_one_right_image_and_leaves_nothing() {
    if !needs(&["xorriso", "sha256sum", "mkfifo", "dd"]) {
        return;
    }
    let matrix = Mutex::default();
    for build in [Build::Upload, Build::Package, Build::Appliance, Build::Install] {
        // The steps after the installation are the same with any disk.
        let moments =
            if build == Build::Install { &["after"][..] } else { &["before", "torn", "after"] };
        for (first, when) in (1..).zip(moments) {
            series(build, first, |number| Place::Line(when, number), &matrix);
        }
    }
    for (first, what) in [(1, "stall_ms"), (2, "hold_answer_ms")] {
        series(Build::Upload, first, |number| Place::Request(what, number), &matrix);
    }
    for guest in [
        "install.begin",
        "install.written",
        "install.end",
        "boot.begin",
        "boot.written",
        "boot.end",
    ] {
        assert!(point(Build::Install, &Place::Guest(guest), &matrix), "no guest came to {guest}");
    }
    let matrix = matrix.into_inner().unwrap();
    let (mut points, mut again) = (0, 0);
    for ((build, kind), row) in &matrix {
        println!(
            "{build:?}: {kind}: {} killed, {} resumed, at most {} bytes sent again",
            row.points, row.resumed, row.sent_again
        );
        points += row.points;
        again = again.max(row.sent_again);
    }
    println!("{points} kill points, 0 wrong images, 0 leftovers, at most {again} bytes sent again");
    assert!(points >= 200 / step(), "only {points} kill points");
}

#[test]
fn an_encrypted_build_killed_anywhere_leaves_no_image_that_is_not() {
    if !needs(&["sha256sum"]) {
        return;
    }
    let matrix = Mutex::default();
    for (first, when) in (1..).zip(["before", "after"]) {
        series(Build::Encrypted, first, |number| Place::Line(when, number), &matrix);
    }
    for (first, what) in [(1, "stall_ms"), (2, "hold_answer_ms")] {
        series(Build::Encrypted, first, |number| Place::Request(what, number), &matrix);
    }
    let points: u64 = matrix.into_inner().unwrap().values().map(|row| row.points).sum();
    assert!(points >= 60 / step(), "only {points} kill points");
    // Instead of resuming, the user removes what is left.
    for number in (3..).step_by(usize::try_from(2 * step()).unwrap()) {
        let (bench, place) = (Bench::new(Build::Encrypted), Place::Line("after", number));
        if !bench.killed_at(&place) {
            break;
        }
        bench.forget(&place);
    }
}
