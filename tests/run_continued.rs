//! Continues, completes and removes a build while another process, which has read its journal, still waits for settings.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    process::{Child, Stdio},
};

use rustix::fs::OFlags;
use serde_json::Value;

use crate::{
    harness::{Run, Sandbox, tool, until},
    targets::two_buckets,
};

/// What the waiting process does with the build.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Waiting {
    Resume,
    Collect,
}

/// What the build has when the waiting process reads its journal.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Begun {
    /// Nothing in the cloud.
    Locally,
    /// An upload.
    InTheCloud,
}

/// What another process does with the build meanwhile.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meanwhile {
    /// It completes the build.
    Completes,
    /// It is killed when it has uploaded something.
    Dies,
    /// It removes what was begun.
    Removes,
}

struct Bench {
    sandbox: Sandbox,
}

impl Bench {
    /// Each build has a file of settings for itself, so that each can be made to wait.
    fn new(with_targets: bool) -> Self {
        let sandbox = Sandbox::with_cloud();
        let config = if with_targets { two_buckets(&sandbox, &[]) } else { sandbox.config(&[]) };
        for name in ["first.yml", "second.yml", "again.yml"] {
            sandbox.write(name, &config);
        }
        sandbox.disk("disk.raw", 4, 1);
        Self { sandbox }
    }

    /// Runs a command that is killed at a line of a journal.
    fn killed(&self, words: &[&str], place: &str) {
        let mut command = self.sandbox.command(words);
        command.env("BUILD_IMAGE_FAILPOINT", format!("after:{place}"));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), None, "{words:?} {output:?}");
    }

    /// Begins a build that is killed; returns the id of its run.
    fn begun(&self, config: &str) -> String {
        let before = self.runs();
        self.killed(&["--disk", "disk.raw", "-c", config, "-p", "alibaba"], "step_started");
        self.runs().into_keys().find(|run| !before.contains_key(run)).unwrap()
    }

    /// What `runs` lists.
    fn listed(&self) -> Value {
        let output = self.sandbox.command(&["runs", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs that left something, with the number of things in the cloud.
    fn runs(&self) -> BTreeMap<String, usize> {
        let one = |run: &Value| {
            let count = run["resources"].as_array().unwrap().len();
            (run["id"].as_str().unwrap().to_owned(), count)
        };
        self.listed()["runs"].as_array().unwrap().iter().map(one).collect()
    }

    /// Starts a command, and returns when it waits for a file of settings.
    fn waiting(&self, words: &[&str], config: &str) -> Held {
        let [file, saved] = [config.to_owned(), format!("{config}.saved")]
            .map(|name| self.sandbox.path().join(name));
        fs::rename(&file, &saved).unwrap();
        tool(self.sandbox.path(), &["mkfifo", file.to_str().unwrap()]);
        let mut command = self.sandbox.command(words);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut held = Held { child: Some(child), pipe: None };
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        until("the settings are read", || {
            held.pipe = options.open(&file).ok();
            held.pipe.is_some()
        });
        held
    }

    /// Gives a waiting command its settings; returns its end.
    fn go_on(&self, mut held: Held, config: &str) -> Run {
        let saved = self.sandbox.path().join(format!("{config}.saved"));
        let text = fs::read(&saved).unwrap();
        fs::rename(saved, self.sandbox.path().join(config)).unwrap();
        held.pipe.take().unwrap().write_all(&text).unwrap();
        Run::of(&held.child.take().unwrap().wait_with_output().unwrap(), None)
    }

    /// Nothing is listed, nothing but images is in the cloud, and no file is left.
    #[track_caller]
    fn is_clean(&self, images: u64, text: &str) {
        let left = self.listed();
        assert_eq!(
            (&left["runs"], &left["groups"]),
            (&Value::Array(vec![]), &Value::Array(vec![])),
            "{text}"
        );
        self.sandbox.cloud_has_only(images);
        assert!(
            !self.sandbox.path().join("artifacts").exists(),
            "{text}{:?}",
            self.sandbox.files()
        );
    }
}

/// A command that waits; it is killed if the test ends earlier.
struct Held {
    child: Option<Child>,
    pipe: Option<fs::File>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Ends with nothing lost: what exists in the cloud is an image or is listed.
fn check(waiting: Waiting, begun: Begun, meanwhile: Meanwhile) {
    let bench = Bench::new(false);
    let sandbox = &bench.sandbox;
    let configs: &[&str] = match waiting {
        Waiting::Resume => &["first.yml"],
        Waiting::Collect => &["first.yml", "second.yml"],
    };
    let mut builds: Vec<_> = configs.iter().map(|config| (bench.begun(config), *config)).collect();
    builds.sort();
    let (run, config) = builds.pop().unwrap();
    if begun == Begun::InTheCloud {
        bench.killed(&["resume", &run], "multipart_upload");
    }
    // A clean-up reads the settings of the run before it, which has something in the cloud, while this one is in its list.
    let before = builds.pop();
    if let Some((other, _)) = &before {
        bench.killed(&["resume", other], "multipart_upload");
    }
    assert_eq!(bench.runs()[&run] > 0, begun == Begun::InTheCloud);
    let (words, config) = match &before {
        None => (vec!["resume", run.as_str()], config),
        Some((_, config)) => (vec!["gc", "--yes"], *config),
    };
    let held = bench.waiting(&words, config);
    let resume = ["resume", run.as_str(), "-c", "again.yml"];
    match (meanwhile, begun) {
        (Meanwhile::Completes, _) => _ = sandbox.run(&resume).succeeded(),
        (Meanwhile::Dies, _) => bench.killed(&resume, r#""step":"upload","facts""#),
        // It reads no settings.
        (Meanwhile::Removes, Begun::Locally) => {
            sandbox.run(&["gc", "--forget", &run, "--yes"]).succeeded();
        }
        (Meanwhile::Removes, Begun::InTheCloud) => {
            let refuse = r#"[{"operation":"ImportImage","nth":2,"action":{"status":403,"code":"Forbidden"}}]"#;
            let emulator = sandbox.emulator.as_ref().unwrap();
            emulator.set_faults(refuse).unwrap();
            // What a failed build has made is removed.
            sandbox.run(&resume).failed(6, &["Forbidden"]);
            emulator.set_faults("[]").unwrap();
        }
    }
    let ended = bench.go_on(held, config);
    let text = format!("{waiting:?} {begun:?} {meanwhile:?}: {}{}", ended.stdout, ended.stderr);
    let refused = format!("run `{run}` was continued by another process meanwhile");
    // A clean-up has nothing left to do for a run that is gone.
    let is_right = waiting == Waiting::Collect && meanwhile != Meanwhile::Dies;
    assert_eq!(ended.code, if is_right { 0 } else { 7 }, "{text}");
    assert_eq!(ended.stderr.contains(&refused), !is_right, "{text}");
    let gone = format!("{run}  completed or removed by another process");
    assert_eq!(ended.stdout.contains(&gone), is_right, "{text}");
    let left = bench.runs();
    assert!(before.is_none_or(|(other, _)| !left.contains_key(&other)), "{text}{left:?}");
    if meanwhile == Meanwhile::Dies {
        assert!(left[&run] > 0, "{text}{left:?}");
        sandbox.run(&["resume", &run]).succeeded();
    }
    bench.is_clean(u64::from(meanwhile != Meanwhile::Removes), &text);
}

#[test]
fn a_run_that_another_process_continues_is_left_to_it() {
    for waiting in [Waiting::Resume, Waiting::Collect] {
        for begun in [Begun::Locally, Begun::InTheCloud] {
            for meanwhile in [Meanwhile::Completes, Meanwhile::Dies, Meanwhile::Removes] {
                check(waiting, begun, meanwhile);
            }
        }
    }
}

#[test]
fn a_build_of_several_targets_that_another_process_continues_is_left_to_it() {
    for meanwhile in [Meanwhile::Completes, Meanwhile::Dies, Meanwhile::Removes] {
        let bench = Bench::new(true);
        let sandbox = &bench.sandbox;
        bench.killed(&["--disk", "disk.raw", "-c", "first.yml"], "group_started");
        let group = bench.listed()["groups"][0]["id"].as_str().unwrap().to_owned();
        let held = bench.waiting(&["resume", &group], "first.yml");
        let resume = ["resume", group.as_str(), "-c", "again.yml"];
        match meanwhile {
            Meanwhile::Completes => _ = sandbox.run(&resume).succeeded(),
            Meanwhile::Dies => bench.killed(&resume, "multipart_upload"),
            Meanwhile::Removes => _ = sandbox.run(&["gc", "--yes"]).succeeded(),
        }
        let ended = bench.go_on(held, "first.yml");
        let text = format!("{meanwhile:?}: {}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, 7, "{text}");
        let refused = format!("run `{group}` was continued by another process meanwhile");
        assert!(ended.stderr.contains(&refused), "{text}");
        if meanwhile == Meanwhile::Dies {
            sandbox.run(&["resume", &group]).succeeded();
        }
        bench.is_clean(if meanwhile == Meanwhile::Removes { 0 } else { 2 }, &text);
    }
}

/// The user names the run of a target that is done, and of which only the directory is left.
#[test]
fn what_other_targets_left_stays_listed_when_a_target_that_is_done_is_resumed() {
    let bench = Bench::new(true);
    let sandbox = &bench.sandbox;
    let emulator = sandbox.emulator.as_ref().unwrap();
    emulator.set_faults(r#"[{"operation":"UploadPart","action":{"stall_ms":600000}}]"#).unwrap();
    let mut command = sandbox.command(&["--disk", "disk.raw", "-c", "first.yml"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let held = Held { child: Some(child), pipe: None };
    until("both targets upload", || {
        emulator.status()["open_uploads"] == 2 && bench.runs().values().all(|count| *count > 0)
    });
    drop(held);
    emulator.set_faults("[]").unwrap();
    let [one, other] = bench.runs().into_keys().collect::<Vec<_>>().try_into().unwrap();
    bench.killed(&["resume", &one], "target_ended");
    let run = sandbox.run(&["resume", &one]);
    run.failed(10, &["1 of 2 targets have no image", "build-image resume group-"]);
    let left = bench.runs();
    assert!(left.get(&other).is_some_and(|count| *count > 0), "{left:?}");
    sandbox.run(&["resume"]).succeeded();
    bench.is_clean(2, "");
}
