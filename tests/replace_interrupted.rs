//! Replaces an image in two regions with slow API calls, and interrupts it: with Ctrl-C, with Ctrl-C and SIGKILL
//! in the middle of the clean-up, with SIGKILL and a clean-up, with SIGKILL and a resume, each at every moment.
//! Moments are requests to the cloud, drawn by a seeded generator.
//! Afterwards every region has exactly one image of the name, and nothing is left that no record lists.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use build_image_emulator_alibaba::Stored;
use serde_json::Value;

use crate::harness::{Run, Sandbox};

/// Number of moments of a whole run. BUILD_IMAGE_SOAK_LOTTERY=1 tries each with all endings; another number N
/// tries one point in N.
const MOMENTS: usize = 200;
/// One point in this many is tried otherwise. It is coprime to the number of endings, so that all are tried.
const STEP: usize = 53;
/// The clean-up is killed at one of its first requests, this many.
const CLEAN_UP: usize = 8;
const REGIONS: [&str; 2] = ["cn-hangzhou", "cn-shanghai"];
const NAME: &str = "web";

/// What happens at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interruption {
    Signal,
    /// Killed at this request of the clean-up, then resumed.
    SignalAndKill,
    KillAndClean,
    KillAndResume,
}

/// A cloud in which both regions have an image of the name.
struct Bench {
    sandbox: Sandbox,
    state: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let (sandbox, state) = Sandbox::with_kept_cloud();
        let config = sandbox.config(&[
            ("ALIBABA_IF_EXISTS", "replace"),
            ("ALIBABA_IMAGE_COPY_REGIONS", "[cn-shanghai]"),
            ("ALIBABA_IMAGE_FAMILY", "web-family"),
            ("CLOUD_IMAGE_NAME", NAME),
        ]);
        sandbox.write("config.yml", &config);
        sandbox.disk("disk.raw", 16, 1);
        let bench = Self { sandbox, state };
        bench.build().succeeded();
        bench
    }

    fn build(&self) -> Run {
        self.sandbox.run(&Self::WORDS)
    }

    const WORDS: [&'static str; 6] = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];

    fn log(&self) -> PathBuf {
        self.state.path().join("requests.jsonl")
    }

    fn requests(&self) -> usize {
        let log = fs::read_to_string(self.log()).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["service"] != "emulator").count()
    }

    /// Starts a second build and interrupts it while the answer to one of its requests is held. Returns whether it
    /// was interrupted; a build that is done has no such request.
    fn interrupt(&self, request: usize, how: Interruption) -> bool {
        let emulator = self.sandbox.emulator.as_ref().unwrap();
        let held =
            format!(r#"[{{"operation":"*","nth":{request},"action":{{"hold_answer_ms":400}}}}]"#);
        emulator.set_faults(&held).unwrap();
        let mut command = self.sandbox.command(&Self::WORDS);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut struck = false;
        while !struck && child.try_wait().unwrap().is_none() {
            struck = emulator.wait_for_fault(Duration::from_millis(20));
        }
        let signals = [Interruption::Signal, Interruption::SignalAndKill].contains(&how);
        if !signals {
            child.kill().unwrap();
        } else if struck {
            let id = child.id().to_string();
            let in_clean_up = 1 + request % CLEAN_UP;
            if how == Interruption::SignalAndKill {
                let held = format!(
                    r#"[{{"operation":"*","nth":{in_clean_up},"action":{{"hold_answer_ms":400}}}}]"#
                );
                emulator.set_faults(&held).unwrap();
            }
            assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
            let mut is_held = how == Interruption::Signal;
            while !is_held && child.try_wait().unwrap().is_none() {
                is_held = emulator.wait_for_fault(Duration::from_millis(20));
            }
            if how == Interruption::SignalAndKill {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        emulator.set_faults("[]").unwrap();
        struck
    }

    /// Runs that left something.
    fn runs(&self) -> Vec<Value> {
        let output = self.sandbox.command(&["runs", "--json"]).output().unwrap();
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        listed["runs"].as_array().unwrap().clone()
    }

    /// Completes the state of the cloud: removes what is left, or resumes the run.
    fn finish(&self, how: Interruption, place: &str) {
        let runs = self.runs();
        match runs.first() {
            Some(run) if how == Interruption::SignalAndKill => {
                // A run that is partly removed cannot be resumed; the rest is removed.
                let run = self.sandbox.run(&["resume", run["id"].as_str().unwrap()]);
                if run.code != 0 {
                    assert!(run.stderr.contains("error: "), "{place}: {}", run.stderr);
                    let gc = self.sandbox.run(&["gc", "--yes"]);
                    assert_eq!(gc.code, 0, "{place}: {}\n{}", gc.stdout, gc.stderr);
                }
            }
            Some(run) if how == Interruption::KillAndResume => {
                let run = self.sandbox.run(&["resume", run["id"].as_str().unwrap()]);
                assert_eq!(run.code, 0, "{place}: {}\n{}", run.stdout, run.stderr);
            }
            Some(_) => {
                let run = self.sandbox.run(&["gc", "--yes"]);
                assert_eq!(run.code, 0, "{place}: {}\n{}", run.stdout, run.stderr);
            }
            None => {}
        }
        assert!(self.runs().is_empty(), "{place}: {:?}", self.runs());
    }

    /// Exactly one image has the name in each region, and nothing else exists there.
    fn is_right(&self, place: &str) {
        let stored = Stored::open(&self.state.path().join("cloud")).unwrap();
        let images = stored.images();
        for region in REGIONS {
            let here: Vec<&str> = images
                .iter()
                .filter(|image| image.region == region)
                .map(|image| image.name.as_str())
                .collect();
            assert_eq!(here, [NAME], "{place}, {region}");
        }
        let status = self.sandbox.emulator.as_ref().unwrap().status();
        for (kind, count) in
            [("images", 2), ("snapshots", 2), ("objects", 0), ("open_uploads", 0), ("parts", 0)]
        {
            assert_eq!(status[kind], count, "{place}: {kind} of {status}");
        }
    }
}

/// The number of requests of a build that replaces an image and is not interrupted.
fn requests() -> usize {
    let bench = Bench::new();
    let before = bench.requests();
    bench.build().succeeded();
    bench.is_right("undisturbed");
    bench.requests() - before
}

#[test]
fn an_interrupted_replacement_leaves_one_image_under_the_name() {
    let all = requests();
    let step = std::env::var("BUILD_IMAGE_SOAK_LOTTERY");
    let step = step.map_or(STEP, |step| step.parse().unwrap());
    let mut random = 0x5eed_u64;
    let mut draw = |most: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % most
    };
    let ways = [
        Interruption::Signal,
        Interruption::SignalAndKill,
        Interruption::KillAndClean,
        Interruption::KillAndResume,
    ];
    let moments: Vec<usize> = (0..MOMENTS).map(|_| 1 + draw(all)).collect();
    let points: Vec<(usize, Interruption)> =
        moments.into_iter().flat_map(|moment| ways.map(|way| (moment, way))).collect();
    let (next, tally) = (AtomicUsize::new(0), Mutex::new([0; 4]));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(&(request, how)) =
                    points.get(next.fetch_add(step, Ordering::Relaxed))
                {
                    let place = format!("{how:?} at request {request} of {all}");
                    let bench = Bench::new();
                    let interrupted = bench.interrupt(request, how);
                    bench.finish(how, &place);
                    bench.is_right(&place);
                    let way = ways.iter().position(|way| *way == how).unwrap();
                    tally.lock().unwrap()[way] += usize::from(interrupted);
                }
            });
        }
    });
    let [signals, killed, cleaned, resumed] = tally.into_inner().unwrap();
    println!(
        "{signals} signals, {killed} with a kill in the clean-up, {cleaned} kills with a clean-up, {resumed} kills with a resume at {all} requests: \
         0 names lost, 0 taken twice, 0 things that no record knows"
    );
    let interrupted = signals + killed + cleaned + resumed;
    let enough = points.len().div_ceil(step) * 3 / 4;
    assert!(interrupted >= enough, "only {interrupted} of {}", points.len().div_ceil(step));
}
