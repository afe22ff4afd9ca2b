//! Runs libraries in a separate process: the images are the same, and a crash costs only one build.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::harness::{Run, Sandbox, plugin_directory, until};

/// The process that a build has started for its library.
fn provider_of(build: u32) -> Option<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut ours = ids.filter(|id| {
        let read =
            |file: &str| fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
        let parent =
            read("stat").rsplit(") ").next().map(|rest| rest.starts_with(&format!("S {build} ")));
        parent == Some(true) && read("cmdline").contains("provider-child")
    });
    ours.next()
}

#[test]
fn an_isolated_library_makes_the_same_image() {
    let sandbox = Sandbox::with_cloud();
    let disk = sandbox.disk("disk.raw", 70, 9);
    let disk = disk.to_str().unwrap();
    let args = ["--disk", disk, "-p", "qcow2", "--package", "none"];
    sandbox.run(&args).succeeded();
    let made = sandbox.path().join("images/disk.qcow2");
    let first = fs::read(&made).unwrap();
    sandbox.run(&[&args[..], &["--isolate"]].concat()).succeeded();
    assert!(first == fs::read(&made).unwrap(), "the bytes differ");
    let mut command = sandbox.command(&["--disk", disk, "-c", "config.yml", "-p", "alibaba"]);
    let run = Run::of(&command.env("F5_ISOLATE", "yes").output().unwrap(), None);
    run.succeeded();
    sandbox.cloud_has_only(1);
    sandbox.keeps_the_secret(&run);
}

#[test]
fn a_library_that_dies_costs_the_build_and_leaves_nothing() {
    for (signal, text) in [
        ("SEGV", "killed by SIGSEGV (signal 11)"),
        ("ABRT", "killed by SIGABRT (signal 6)"),
        ("KILL", "if nobody did that, the kernel did because memory ran out"),
    ] {
        let sandbox = Sandbox::with_cloud();
        sandbox.disk("disk.raw", 200, 100);
        let emulator = sandbox.emulator.as_ref().unwrap();
        // The library stays in the middle of its step: one of its requests is not answered.
        let part = r#"[{"operation":"UploadPart","part_number":5,"action":{"stall_ms":600000}}]"#;
        emulator.set_faults(part).unwrap();
        let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba", "--isolate"];
        let mut command = sandbox.command(&args);
        let build = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("the library sends", || emulator.wait_for_fault(Duration::from_millis(1)));
        let mut found = None;
        until("the library's process is there", || {
            found = provider_of(build.id());
            found.is_some()
        });
        let id = found.unwrap().to_string();
        let seen = fs::read_to_string(format!("/proc/{id}/environ")).unwrap();
        assert!(!seen.contains("F5_") && seen.contains("BUILD_IMAGE_PROVIDER_PATH"), "{seen}");
        // The first SIGSEGV that is sent, not caused, is swallowed by Rust's handler for stack overflows.
        until("it is gone", || {
            let sent =
                Command::new("kill").args(["-s", signal, &id]).stderr(Stdio::null()).status();
            !sent.unwrap().success()
        });
        let run = Run::of(&build.wait_with_output().unwrap(), None);
        run.failed(1, &["provider `alibaba`, step upload: its process was", text]);
        sandbox.cloud_has_only(0);
        assert!(!sandbox.path().join("artifacts").exists());
    }
}

/// The process of a library, driven directly.
struct Talk {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    next: u64,
}

impl Talk {
    fn new(provider: &str, runner: &[&str]) -> Self {
        let file = plugin_directory().join(build_image_plugin_api::plugin_file_name(provider));
        let program = [runner, &[env!("CARGO_BIN_EXE_build-image"), "provider-child"]].concat();
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut talk = Self { child, input, output, next: 1 };
        talk.ask("initialize", &json!({"protocols": ["1.0"], "buffer": {"path": "/dev/null"}}));
        talk
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        let id = self.next;
        self.next += 1;
        writeln!(
            self.input,
            "{}",
            json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
        )
        .unwrap();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "it died in {method}");
            let message: Value = serde_json::from_str(&line).unwrap();
            match message["method"].as_str() {
                None => return message,
                // Requests of the library on the way: no secrets, nothing stored.
                Some(_) if message["id"].is_null() => {}
                Some(_) => {
                    let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": null});
                    writeln!(self.input, "{answer}").unwrap();
                }
            }
        }
    }

    /// Threads, open files, and resident pages of the process.
    fn size(&self) -> [usize; 3] {
        let count =
            |what: &str| fs::read_dir(format!("/proc/{}/{what}", self.child.id())).unwrap().count();
        let pages = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        [count("task"), count("fd"), pages.split(' ').nth(1).unwrap().parse().unwrap()]
    }

    /// Creates, uses and drops an instance.
    fn cycle(&mut self, settings: &Value) {
        let made = self.ask("create", &json!({"settings": settings}));
        assert!(made["error"].is_null(), "{made:#}");
        let checked = self.ask("check", &json!({"build": {"image_dir": "/tmp"}, "online": false}));
        assert!(checked["result"]["findings"].is_array(), "{checked:#}");
    }
}

#[test]
fn instances_that_come_and_go_leave_no_threads_no_files_and_no_memory() {
    // `make soak` requests more cycles, and runs this under valgrind.
    let cycles = std::env::var("BUILD_IMAGE_SOAK_CYCLES").map_or(200, |text| text.parse().unwrap());
    let runner = std::env::var("BUILD_IMAGE_SOAK_RUNNER").unwrap_or_default();
    let runner: Vec<&str> = runner.split_whitespace().collect();
    let settings = json!({
        "ALIBABA_BUCKET": "demo",
        "ALIBABA_REGION": "cn-hangzhou",
        "ALIBABA_OSS_ENDPOINT": "http://127.0.0.1:9",
        "ALIBABA_ECS_ENDPOINT": "http://127.0.0.1:9",
    });
    for (provider, settings) in [("qcow2", &json!({})), ("alibaba", &settings)] {
        let mut talk = Talk::new(provider, &runner);
        for _ in 0..cycles / 4 {
            talk.cycle(settings);
        }
        let before = talk.size();
        for _ in 0..cycles {
            talk.cycle(settings);
        }
        let after = talk.size();
        println!("{provider}: {cycles} cycles, {before:?} then {after:?} (threads, files, pages)");
        assert_eq!(before[..2], after[..2], "{provider}: threads, files");
        // Allocators and thread stacks vary by a few pages; a leak per cycle would show as one page each.
        let most = before[2] + if runner.is_empty() { 100 } else { usize::MAX / 2 };
        assert!(after[2] <= most, "{provider}: {before:?} became {after:?}");
        drop(talk.input);
        assert!(talk.child.wait().unwrap().success());
    }
}
