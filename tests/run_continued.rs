//! Continues, completes and removes a run while another process, which has read the list of runs, still waits.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    process::{Child, Stdio},
};

use rustix::fs::OFlags;
use serde_json::Value;

use crate::harness::{Run, Sandbox, tool, until};

/// What the waiting process does with the run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Waiting {
    Resume,
    Collect,
}

/// What another process does with the run meanwhile.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meanwhile {
    /// It completes the build.
    Completes,
    /// It is killed when something of it is in the cloud.
    Dies,
    /// It removes the run, which has nothing in the cloud yet.
    Removes,
}

struct Bench {
    sandbox: Sandbox,
}

impl Bench {
    fn new() -> Self {
        let sandbox = Sandbox::with_cloud();
        for name in ["first.yml", "second.yml", "again.yml"] {
            sandbox.write(name, &sandbox.config(&[]));
        }
        sandbox.disk("disk.raw", 4, 1);
        Self { sandbox }
    }

    /// Runs a command that is killed at a line of its journal.
    fn killed(&self, words: &[&str], place: &str) {
        let mut command = self.sandbox.command(words);
        command.env("BUILD_IMAGE_FAILPOINT", format!("after:{place}"));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), None, "{words:?} {output:?}");
    }

    /// Begins a build that is killed before anything of it is in the cloud; returns the id of its run.
    fn begun(&self, config: &str) -> String {
        let before = self.runs();
        self.killed(&["--disk", "disk.raw", "-c", config, "-p", "alibaba"], "step_started");
        let new = self.runs().into_iter().find(|run| !before.contains_key(&run.0)).unwrap();
        new.0
    }

    /// Runs that left something, with the number of things in the cloud.
    fn runs(&self) -> std::collections::BTreeMap<String, usize> {
        let output = self.sandbox.command(&["runs", "--json"]).output().unwrap();
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let one = |run: &Value| {
            let count = run["resources"].as_array().unwrap().len();
            (run["id"].as_str().unwrap().to_owned(), count)
        };
        listed["runs"].as_array().unwrap().iter().map(one).collect()
    }

    /// Starts a command, and returns when it waits for a file of settings; `go_on` lets it continue.
    fn waiting(&self, words: &[&str], config: &str) -> (Child, fs::File) {
        let [file, saved] = [config.to_owned(), format!("{config}.saved")];
        fs::rename(self.sandbox.path().join(&file), self.sandbox.path().join(&saved)).unwrap();
        tool(self.sandbox.path(), &["mkfifo", &file]);
        let mut command = self.sandbox.command(words);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
        let mut pipe = None;
        until("the settings are read", || {
            pipe = options.open(self.sandbox.path().join(&file)).ok();
            pipe.is_some()
        });
        (child, pipe.unwrap())
    }

    /// Gives a waiting command its settings; returns its end.
    fn go_on(&self, (child, mut pipe): (Child, fs::File), config: &str) -> Run {
        let saved = self.sandbox.path().join(format!("{config}.saved"));
        let text = fs::read(&saved).unwrap();
        fs::rename(saved, self.sandbox.path().join(config)).unwrap();
        pipe.write_all(&text).unwrap();
        drop(pipe);
        Run::of(&child.wait_with_output().unwrap(), None)
    }
}

/// Ends with nothing lost: what exists in the cloud is an image or is listed.
fn check(waiting: Waiting, meanwhile: Meanwhile) {
    let bench = Bench::new();
    let sandbox = &bench.sandbox;
    let configs: &[&str] = match waiting {
        Waiting::Resume => &["first.yml"],
        Waiting::Collect => &["first.yml", "second.yml"],
    };
    let mut begun: Vec<_> = configs.iter().map(|config| (bench.begun(config), *config)).collect();
    begun.sort();
    let (run, config) = begun.pop().unwrap();
    // A clean-up reads the settings of the run before it, which has something in the cloud, while this one is in its list.
    let before = begun.pop();
    if let Some((other, _)) = &before {
        bench.killed(&["resume", other], "multipart_upload");
    }
    assert_eq!(bench.runs()[&run], 0, "{waiting:?} {meanwhile:?}");
    let (words, config) = match &before {
        None => (vec!["resume", run.as_str()], config),
        Some((_, config)) => (vec!["gc", "--yes"], *config),
    };
    let held = bench.waiting(&words, config);
    let resume = ["resume", run.as_str(), "-c", "again.yml"];
    match meanwhile {
        Meanwhile::Completes => _ = sandbox.run(&resume).succeeded(),
        Meanwhile::Dies => bench.killed(&resume, "multipart_upload"),
        Meanwhile::Removes => {
            sandbox.run(&["gc", "--forget", &run, "--yes"]).succeeded();
        }
    }
    let ended = bench.go_on(held, config);
    let (is_gone, images) = match meanwhile {
        Meanwhile::Completes => (true, 1),
        Meanwhile::Dies => (false, 0),
        Meanwhile::Removes => (true, 0),
    };
    let text = format!("{waiting:?} {meanwhile:?}: {}{}", ended.stdout, ended.stderr);
    // Only a clean-up has nothing left to do for a run that is gone.
    let is_right = waiting == Waiting::Collect && is_gone;
    assert_eq!(ended.code, if is_right { 0 } else { 7 }, "{text}");
    let refused = format!("run `{run}` was continued by another process meanwhile");
    assert_eq!(ended.stderr.contains(&refused), !is_right, "{text}");
    let left = bench.runs();
    assert_eq!(left.get(&run).copied().unwrap_or(0) > 0, !is_gone, "{text}{left:?}");
    assert!(before.is_none_or(|(other, _)| !left.contains_key(&other)), "{text}{left:?}");
    if is_gone {
        assert!(left.is_empty(), "{text}{left:?}");
        sandbox.cloud_has_only(images);
        assert!(!sandbox.path().join("artifacts").exists(), "{text}{:?}", sandbox.files());
        return;
    }
    sandbox.run(&["resume", &run]).succeeded();
    sandbox.cloud_has_only(1);
    assert!(!sandbox.path().join("artifacts").exists(), "{text}{:?}", sandbox.files());
}

#[test]
fn a_run_that_another_process_continues_is_left_to_it() {
    for waiting in [Waiting::Resume, Waiting::Collect] {
        for meanwhile in [Meanwhile::Completes, Meanwhile::Dies, Meanwhile::Removes] {
            check(waiting, meanwhile);
        }
    }
}
