//! Ends `images` and `gc --cloud` by signals at each of their requests to the emulated Alibaba Cloud: a second call finishes
//! what was begun, and nothing else is touched.

use std::{
    fs,
    io::Read as _,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::harness::{Clock, Run, Sandbox, names, until};

const CLOUD: [&str; 4] = ["-p", "alibaba", "-c", "config.yml"];
/// One request in this many is tried, or all with BUILD_IMAGE_SOAK_SIGNALS.
const STEP: usize = 3;

fn step() -> usize {
    if std::env::var_os("BUILD_IMAGE_SOAK_SIGNALS").is_some() { 1 } else { STEP }
}

/// How a command was ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// A cloud with an image that nothing may touch.
struct Bench {
    sandbox: Sandbox,
    kept: String,
}

impl Bench {
    fn new() -> Self {
        let sandbox = Sandbox::with_cloud();
        sandbox.disk("disk.raw", 24, 8);
        let kept = build(&sandbox, "kept-1");
        Self { sandbox, kept }
    }

    fn run(&self, args: &[&str]) -> Run {
        self.sandbox.run(&[args, &CLOUD[..]].concat())
    }

    fn faults(&self, text: &str) {
        self.sandbox.emulator.as_ref().unwrap().set_faults(text).unwrap();
    }

    fn items(&self) -> Vec<Value> {
        let listed = self.run(&["images", "list", "--all", "--json"]);
        listed.succeeded();
        let document: Value = serde_json::from_str(&listed.stdout).unwrap();
        document["items"].as_array().unwrap().clone()
    }

    fn ids(&self, kind: &str) -> Vec<String> {
        let items = self.items().into_iter().filter(|item| item["kind"] == kind);
        items.map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Ends a command with a signal when its request of this number is stalled, or its answer is held; `None` when it
    /// makes fewer requests.
    fn ended(&self, command: &mut Command, signal: &str, number: usize) -> Option<Ended> {
        let fault = if number.is_multiple_of(2) { "stall_ms" } else { "hold_answer_ms" };
        self.faults(&format!(
            r#"[{{"operation":"*","nth":{number},"action":{{"{fault}":600000}}}}]"#
        ));
        let temporary = self.sandbox.path().join("tmp");
        fs::create_dir_all(&temporary).unwrap();
        command.env("TMPDIR", &temporary).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let emulator = self.sandbox.emulator.as_ref().unwrap();
        let mut is_over = false;
        until("the request", || {
            is_over = child.try_wait().unwrap().is_some();
            is_over || emulator.wait_for_fault(Duration::from_millis(5))
        });
        if !is_over {
            let id = child.id().to_string();
            assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        }
        let (mut stdout, mut stderr) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let code = child.wait().unwrap().code();
        self.faults("[]");
        assert_eq!(names(&temporary), Vec::<String>::new(), "{signal} at request {number}");
        (!is_over).then_some(Ended { code, stdout, stderr })
    }

    /// Tries a command at its requests; `again` restores what it changes. Returns the number of signals.
    fn tried(&self, words: &dyn Fn(&Self) -> Vec<String>, finished: &dyn Fn(&Self)) -> usize {
        let mut signals = 0;
        let kinds = ["-KILL", "-INT", "-TERM"];
        for (at, number) in (1..).step_by(step()).enumerate() {
            let signal = kinds[at % kinds.len()];
            let words = words(self);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut command = self.sandbox.command(&[&words[..], &CLOUD].concat());
            let Some(ended) = self.ended(&mut command, signal, number) else { break };
            signals += 1;
            let Ended { code, stdout, stderr } = ended;
            let shown = format!("{words:?}, {signal} at request {number}: {stdout}{stderr}");
            if signal == "-KILL" {
                assert_eq!(code, None, "{shown}");
            } else {
                assert_eq!(code, Some(130), "{shown}");
                assert!(stderr.contains("interrupted"), "{shown}");
            }
            let again = self.run(&words);
            // An image that is gone cannot be named again.
            if !again.stderr.contains("no image `") {
                again.succeeded();
            }
            finished(self);
            let kept = self.run(&["images", "show", &self.kept]);
            kept.succeeded();
        }
        signals
    }
}

fn build(sandbox: &Sandbox, name: &str) -> String {
    let words = ["--disk", "disk.raw", "--cloud-image-name", name];
    let built = sandbox.run(&[&words[..], &CLOUD].concat());
    built.succeeded();
    built.member("image_id").as_str().unwrap().to_owned()
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn a_copy_that_was_ended_is_finished_by_the_second_call() {
    let bench = Bench::new();
    let id = bench.kept.clone();
    let copy = format!("images copy {id} --to cn-beijing,cn-shanghai");
    let signals = bench.tried(&|_| words(&copy), &|bench| {
        let images = bench.ids("image");
        assert_eq!(images.len(), 3, "{images:?}");
        for image in images.iter().filter(|image| **image != id) {
            bench.run(&["images", "delete", image, "--force", "--yes"]).succeeded();
        }
        bench.sandbox.cloud_has_only(1);
    });
    assert!(signals >= 3, "{signals}");
}

#[test]
fn a_deletion_that_was_ended_is_finished_by_the_second_call() {
    let bench = Bench::new();
    let two = |bench: &Bench| {
        let [one, two] = ["web-1", "web-2"].map(|name| build(&bench.sandbox, name));
        words(&format!("images delete {one} {two} --yes"))
    };
    let signals = bench.tried(&two, &|bench| {
        bench.sandbox.cloud_has_only(1);
    });
    assert!(signals >= 3, "{signals}");
}

#[test]
fn a_prune_that_was_ended_is_finished_by_the_second_call() {
    let bench = Bench::new();
    let family = |bench: &Bench| {
        for name in ["web-1", "web-2"] {
            build(&bench.sandbox, name);
        }
        words("images prune --family web- --keep 0 --yes")
    };
    let signals = bench.tried(&family, &|bench| {
        assert_eq!(bench.ids("image"), std::slice::from_ref(&bench.kept));
    });
    assert!(signals >= 3, "{signals}");
}

#[test]
fn a_repair_that_was_ended_is_finished_by_the_second_call() {
    let bench = Bench::new();
    let id = bench.kept.clone();
    bench.sandbox.write(
        "images.yml",
        "version: 1\nimages:\n  - name: kept-*\n    regions: [cn-hangzhou, cn-beijing]\n    tags: {owner: team}\n",
    );
    let signals = bench.tried(&|_| words("images drift --file images.yml --repair"), &|bench| {
        let images = bench.ids("image");
        assert_eq!(images.len(), 2, "{images:?}");
        let shown = bench.run(&["images", "show", &id]);
        assert!(shown.stdout.contains("owner: team"), "{}", shown.stdout);
        for image in images.iter().filter(|image| **image != id) {
            bench.run(&["images", "delete", image, "--force", "--yes"]).succeeded();
        }
        bench.run(&["images", "untag", &id, "--key", "owner"]).succeeded();
    });
    assert!(signals >= 3, "{signals}");
}

#[test]
fn a_sweep_that_was_ended_is_finished_by_the_second_call() {
    let bench = Bench::new();
    let clock = Clock::new(bench.sandbox.path().join("clock"));
    for (at, number) in (1..).step_by(step()).enumerate() {
        for line in [8, 12] {
            let name = format!("lost-{number}-{line}");
            let words = ["--disk", "disk.raw", "--cloud-image-name", &name];
            let mut build = bench.sandbox.command(&[&words[..], &CLOUD].concat());
            build.stdout(Stdio::null()).stderr(Stdio::null());
            build.env("BUILD_IMAGE_FAILPOINT", format!("after:{line}"));
            assert!(build.status().unwrap().code().is_none());
            fs::remove_dir_all(bench.sandbox.path().join("artifacts")).unwrap();
        }
        let signal = ["-INT", "-KILL", "-TERM"][at % 3];
        clock.jump(25 * 3600);
        let sweep = || bench.sandbox.command(&[&["gc", "--cloud", "--yes"], &CLOUD[..]].concat());
        let mut command = sweep();
        let ended = bench.ended(clock.rules(&mut command), signal, number);
        let done = ended.is_none();
        if let Some(Ended { code, stdout, stderr }) = ended {
            let expected = (signal != "-KILL").then_some(130);
            assert_eq!(code, expected, "{signal} at request {number}: {stdout}{stderr}");
        }
        let mut command = sweep();
        Run::of(&clock.rules(&mut command).output().unwrap(), None).succeeded();
        let status = bench.sandbox.emulator.as_ref().unwrap().status();
        assert_eq!(
            (&status["objects"], &status["open_uploads"]),
            (&0.into(), &0.into()),
            "{status}"
        );
        bench.run(&["images", "show", &bench.kept]).succeeded();
        clock.jump(0);
        if done {
            assert!(number > 3, "{number}");
            break;
        }
    }
}

#[test]
fn a_plan_that_is_killed_leaves_no_file() {
    let bench = Bench::new();
    let args = ["plan", "--check", "--disk", "disk.raw", "--cloud-image-name", "web-1"];
    let mut command = bench.sandbox.command(&[&args[..], &CLOUD].concat());
    assert!(bench.ended(&mut command, "-KILL", 2).is_some());
}
