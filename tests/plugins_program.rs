//! Runs providers that are programs: the Python example builds whole images, and each of its faults ends in one
//! clear error with nothing left behind.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{Run, Sandbox, needs_python, needs_qemu, root, until};

/// A key that must never be disclosed.
const KEY: &str = "hunter2-hunter2";

/// The directory of the Python example.
fn example() -> PathBuf {
    root().join("providers/example-python")
}

/// A provider `faulty`: the example, except for `fault`, which runs when the first bytes are written.
pub(crate) fn faulty(sandbox: &Sandbox, fault: &str) -> PathBuf {
    let directory = sandbox.path().join("plugins");
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join("build-image-provider-faulty");
    let script = format!(
        r#"#!/usr/bin/env python3
import importlib.machinery, importlib.util, os, signal, sys, time
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("pydir", "{example}")
pydir = importlib.util.module_from_spec(importlib.util.spec_from_loader("pydir", loader))
loader.exec_module(pydir)
ready = "{ready}"
class Faulty(pydir.PyDir):
    @staticmethod
    def describe():
        return {{**pydir.PyDir.describe(), "name": "faulty"}}
    def copy(self, disk, part):
        host = self.host
        def fault(*_):
            open(ready, "w").close()
            {fault}
        host.progress = fault
        return super().copy(disk, part)
pydir.CHECKPOINT = 1
pydir.serve(Faulty)
"#,
        example = example().join("build-image-provider-pydir").display(),
        ready = sandbox.path().join("ready").display(),
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

fn words<'a>(disk: &'a Path, provider: &'a str, directory: &'a Path) -> Vec<&'a str> {
    let (disk, directory) = (disk.to_str().unwrap(), directory.to_str().unwrap());
    vec!["--disk", disk, "-p", provider, "--provider-dir", directory]
}

/// Checks that only the log and the result of a failed build are left.
#[track_caller]
fn nothing_is_left(sandbox: &Sandbox) {
    let kept = |name: &String| name.starts_with("images/") || name.starts_with("artifacts");
    let left: Vec<String> = sandbox.files().into_iter().filter(kept).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_example_publishes_whole_images() {
    if !needs_python() || !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 70, 9);
    let images = sandbox.path().join("images");
    let run = sandbox.run(&words(&disk, "pydir", &example()));
    run.succeeded();
    let made = images.join("disk.pydir.qcow2");
    assert_eq!(run.member("bytes_sent"), made.metadata().unwrap().len());
    for (word, more) in [("check", &[][..]), ("compare", &["-f", "qcow2", "-F", "raw"][..])] {
        let mut oracle = Command::new("qemu-img");
        oracle.arg(word).args(more).arg(&made).args(more.first().map(|_| &disk));
        assert!(oracle.output().unwrap().status.success(), "qemu-img {word}");
    }
    assert_eq!(run.member("plugin")["name"], "pydir");
    let directory = example();
    let run =
        sandbox.run(&[&words(&disk, "pydir", &directory)[..], &["--pydir-format", "raw"]].concat());
    run.succeeded();
    assert_eq!(run.member("pydir_directory"), images.to_str().unwrap());
    let made = fs::read(images.join("disk.pydir.raw")).unwrap();
    assert!(made == fs::read(&disk).unwrap(), "the bytes differ");
}

#[test]
fn a_program_gets_secrets_on_request_and_a_small_environment() {
    if !needs_python() {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 8, 2);
    let directory = faulty(&sandbox, r#"host.log("sees " + " ".join(sorted(os.environ)))"#);
    let mut command = sandbox.command(&words(&disk, "faulty", &directory));
    command.env("F5_PYDIR_SEAL_KEY", KEY).env("CLOUD_TOKEN", "t").env("HTTPS_PROXY", "http://p:1");
    let run = Run::of(&command.output().unwrap(), None);
    run.succeeded();
    let image = fs::read(sandbox.path().join("images/disk.faulty.qcow2")).unwrap();
    let output = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", KEY, "-r"])
        .arg(sandbox.path().join("images/disk.faulty.qcow2"))
        .output()
        .unwrap();
    let digest = String::from_utf8(output.stdout).unwrap();
    let seal = fs::read_to_string(sandbox.path().join("images/disk.faulty.qcow2.seal")).unwrap();
    assert!(!image.is_empty() && digest.starts_with(seal.trim()), "{digest} {seal}");
    let log = fs::read_to_string(sandbox.path().join("logs/image-faulty")).unwrap();
    let seen = log.lines().find_map(|line| line.split_once("sees ")).unwrap().1;
    // Interpreters add variables themselves; none of ours may be among them.
    for name in ["BUILD_IMAGE_PROVIDER_FILE", "HOME", "HTTPS_PROXY", "PATH"] {
        assert!(seen.contains(name), "{name} is missing: {seen}");
    }
    for name in ["F5_", "CLOUD_TOKEN", "BUILD_IMAGE_PROVIDER_PATH"] {
        assert!(!seen.contains(name), "{name} is seen: {seen}");
    }
    for text in [&log, &run.stdout, &run.stderr] {
        assert!(!text.contains(KEY), "{text}");
    }
}

#[test]
fn whatever_a_program_does_wrong_the_build_fails_with_one_error_and_leaves_nothing() {
    if !needs_python() {
        return;
    }
    for (fault, code, texts) in [
        (
            "print('lost', file=sys.stderr); os._exit(7)",
            1,
            &["exit status 7", "standard error: lost"][..],
        ),
        ("os.abort()", 1, &["killed by SIGABRT (signal 6)"]),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 1, &["killed by SIGSEGV (signal 11)"]),
        ("os.kill(os.getpid(), signal.SIGKILL)", 1, &["killed by SIGKILL", "memory ran out"]),
        (
            "os.write(host.output.fileno(), b'a line\\n')",
            1,
            &["no message of the protocol: `a line`"],
        ),
        ("host.send(id=99, result=1)", 1, &["an answer to call 99"]),
        ("os.close(host.output.fileno()); time.sleep(600)", 1, &["closed its output"]),
        ("raise KeyError('k')", 1, &["upload failed", "because: KeyError('k')"]),
        ("host.call('make_coffee')", 6, &["this build-image has no `make_coffee`"]),
        ("host.call('secret', key='X')", 6, &["`X` is no secret setting"]),
        ("host.call('secret')", 1, &["parameters of secret are malformed"]),
        (
            "host.call('disk_read_at', disk=0, offset=0, length=1 << 40)",
            2,
            &["1099511627776 bytes"],
        ),
        (
            "raise pydir.Failure('quota', 'full', 'delete some', ['c1'], request_id='R-1')",
            6,
            &["step upload: full", "because: c1", "request_id: R-1", "hint: delete some"],
        ),
        (
            "print('stray line'); raise pydir.Failure('network', 'x', retryable=True)",
            7,
            &["upload: x"],
        ),
        (
            "x = pydir.Failure('network', 'x', retryable=True); x.data['exhausted'] = {'attempts': 6, 'seconds': 63}; raise x",
            7,
            &[
                "upload: x",
                "hint: tried 6 times within 1 min 3 s without success; check the network",
            ],
        ),
    ] {
        let sandbox = Sandbox::new();
        let disk = sandbox.disk("disk.raw", 8, 2);
        let directory = faulty(&sandbox, fault);
        sandbox.run(&words(&disk, "faulty", &directory)).failed(code, texts);
        nothing_is_left(&sandbox);
    }
}

#[test]
fn bytes_of_the_disk_come_as_text_too() {
    if !needs_python() {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 8, 2);
    let fault = "a = host.call('disk_read_at', disk=disk['id'], offset=0, length=5000); \
                 import base64; assert base64.b64decode(a['data']) == open(part, 'rb').read(5000); \
                 assert a['length'] == 5000; raise pydir.Failure('quota', 'all is well')";
    let directory = faulty(&sandbox, fault);
    sandbox.run(&words(&disk, "faulty", &directory)).failed(6, &["all is well"]);
}

#[test]
fn ctrl_c_ends_a_program_that_listens_and_one_that_does_not() {
    if !needs_python() {
        return;
    }
    for (fault, warning) in [
        ("host.call('wait', milliseconds=3600000)", ""),
        ("time.sleep(3600)", "the provider did not stop within 5 s and was killed"),
    ] {
        let sandbox = Sandbox::new();
        let disk = sandbox.disk("disk.raw", 8, 2);
        let directory = faulty(&sandbox, fault);
        let mut command = sandbox.command(&words(&disk, "faulty", &directory));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("the upload has begun", || sandbox.path().join("ready").exists());
        let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let run = Run::of(&child.wait_with_output().unwrap(), None);
        run.failed(130, &["error: interrupted", warning]);
        assert_eq!(run.stderr.contains("was killed"), !warning.is_empty(), "{}", run.stderr);
        nothing_is_left(&sandbox);
    }
}

#[test]
fn a_failed_build_of_the_example_leaves_the_older_image_and_its_seal() {
    if !needs_python() {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 16, 16);
    let older = ["images/disk.faulty.raw", "images/disk.faulty.raw.seal"];
    fs::create_dir(sandbox.path().join("images")).unwrap();
    for name in older {
        fs::write(sandbox.path().join(name), "older").unwrap();
    }
    let directory = faulty(&sandbox, "raise pydir.Failure('quota', 'full', 'delete some')");
    let raw = [&words(&disk, "faulty", &directory)[..], &["--pydir-format", "raw"]].concat();
    assert_ne!(sandbox.run(&raw).code, 0);
    for name in older {
        assert_eq!(fs::read_to_string(sandbox.path().join(name)).unwrap(), "older", "{name}");
    }
    assert_eq!(crate::harness::names(&sandbox.path().join("images")).len(), 2);
}

/// The host is killed once, with the second piece on disk.
const DIES_ONCE: &str = "if os.path.getsize(part) > 5 << 20 and not os.path.exists(ready + '2'): \
                         open(ready + '2', 'w').close(); os.kill(os.getppid(), 9)";

#[test]
fn a_killed_build_is_resumed_where_the_program_was() {
    if !needs_python() {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 16, 16);
    let directory = faulty(&sandbox, DIES_ONCE);
    let raw = [&words(&disk, "faulty", &directory)[..], &["--pydir-format", "raw"]].concat();
    let killed = sandbox.run(&raw);
    assert_eq!(killed.code, -1, "killed: {}", killed.stderr);
    let output = sandbox.command(&["runs", "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = sandbox.run(&["resume", listed["runs"][0]["id"].as_str().unwrap()]);
    run.succeeded();
    assert!(run.member("bytes_sent").as_u64().unwrap() < 16 << 20, "it began again");
    let made = fs::read(sandbox.path().join("images/disk.faulty.raw")).unwrap();
    assert!(made == fs::read(&disk).unwrap(), "the bytes differ");
    let log = fs::read_to_string(sandbox.path().join("logs/image-faulty")).unwrap();
    assert!(log.contains("going on at byte"), "{log}");
}

/// Whether `part` is contained in `whole`: members that are missing in `part` may have any value.
fn is_part(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => part
            .iter()
            .all(|(name, value)| whole.get(name).is_some_and(|other| is_part(value, other))),
        (Value::Array(part), Value::Array(whole)) => {
            part.len() == whole.len() && part.iter().zip(whole).all(|(a, b)| is_part(a, b))
        }
        _ => part == whole,
    }
}

#[test]
fn the_transcript_in_the_documentation_matches_the_real_messages() {
    if !needs_python() {
        return;
    }
    let sandbox = Sandbox::new();
    let directory = sandbox.path().join("plugins");
    fs::create_dir_all(&directory).unwrap();
    let program = directory.join("build-image-provider-pydir");
    // A recorder passes and records both directions.
    let (host, provider) = (sandbox.path().join("host"), sandbox.path().join("provider"));
    let script = format!(
        "#!/bin/sh\ntee -a '{}' | '{}' | tee -a '{}'\n",
        host.display(),
        example().join("build-image-provider-pydir").display(),
        provider.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let disk = sandbox.disk("disk.raw", 1, 1);
    fs::create_dir(sandbox.path().join("out")).unwrap();
    let words = [
        &words(&disk, "pydir", &directory)[..],
        &["--pydir-directory", "out", "--pydir-format", "raw"],
    ];
    sandbox.run(&words.concat()).succeeded();
    let messages_of = |path: &Path| messages(&sandbox, &fs::read_to_string(path).unwrap());
    let compared = contains(0, [(">", messages_of(&host)), ("<", messages_of(&provider))]);
    assert!(compared >= 20, "only {compared} lines");
}

/// Messages, one per line, as the documentation shows them.
fn messages(sandbox: &Sandbox, text: &str) -> Vec<Value> {
    let text = text.replace(sandbox.path().canonicalize().unwrap().to_str().unwrap(), "/home/me");
    let text = text.replace(sandbox.path().to_str().unwrap(), "/home/me");
    // The staging directory of the run.
    let run = regex::Regex::new(r"\.build-image-\d{8}-\d{6}-[a-z0-9]{6}").unwrap();
    let text = run.replace_all(&text, ".build-image-RUN");
    text.replace("faulty", "pydir")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Compares the documentation's transcript of this number with the messages of both directions, in order. Returns
/// the number of its lines.
fn contains(number: usize, mut streams: [(&str, Vec<Value>); 2]) -> usize {
    let page = fs::read_to_string(root().join("docs/plugins.md")).unwrap();
    let transcript =
        page.split("```transcript\n").nth(number + 1).unwrap().split("```").next().unwrap();
    let mut compared = 0;
    for line in transcript.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (arrow, text) = line.split_at(1);
        let expected: Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let (_, stream) = streams.iter_mut().find(|(known, _)| *known == arrow).unwrap();
        let found = stream.iter().position(|message| is_part(&expected, message));
        let found =
            found.unwrap_or_else(|| panic!("no message is {expected}\n{:#}", json!(stream)));
        stream.drain(..=found);
        compared += 1;
    }
    compared
}

/// The messages that a trace recorded, by direction.
fn recorded(sandbox: &Sandbox, trace: &Path) -> [(&'static str, Vec<Value>); 2] {
    let all = messages(sandbox, &fs::read_to_string(trace).unwrap());
    [(">", "to_provider"), ("<", "from_provider")].map(|(arrow, direction)| {
        let of = all.iter().filter(|line| line["direction"] == direction);
        (arrow, of.map(|line| line["message"].clone()).collect())
    })
}

/// Runs the program with a trace; an earlier record is removed.
fn traced(sandbox: &Sandbox, words: &[&str]) -> Run {
    let trace = sandbox.path().join("trace");
    let _ = fs::remove_file(&trace);
    let mut command = sandbox.command(words);
    Run::of(&command.env("BUILD_IMAGE_TRACE_PROTOCOL", &trace).output().unwrap(), None)
}

#[test]
fn the_transcripts_of_a_resume_and_a_failure_match_the_real_messages() {
    if !needs_python() {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 16, 16);
    let directory = faulty(&sandbox, DIES_ONCE);
    let raw = [&words(&disk, "faulty", &directory)[..], &["--pydir-format", "raw"]].concat();
    assert_eq!(traced(&sandbox, &raw).code, -1);
    let output = sandbox.command(&["runs", "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    traced(&sandbox, &["resume", listed["runs"][0]["id"].as_str().unwrap()]).succeeded();
    let trace = sandbox.path().join("trace");
    assert!(contains(1, recorded(&sandbox, &trace)) >= 9);

    faulty(&sandbox, "raise pydir.Failure('quota', 'full', 'delete some')");
    traced(&sandbox, &raw).failed(6, &["full"]);
    assert!(contains(2, recorded(&sandbox, &trace)) >= 5);
}

#[test]
fn the_transcript_of_a_stop_matches_the_real_messages() {
    if !needs_python() {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 16, 16);
    // The host answers `wait` and sends `cancel` in either order.
    let waits = "host.call('wait', milliseconds=3600000); \
        host.cancelled = host.cancelled or host.read()['method'] == 'cancel'";
    let directory = faulty(&sandbox, waits);
    let raw = [&words(&disk, "faulty", &directory)[..], &["--pydir-format", "raw"]].concat();
    let trace = sandbox.path().join("trace");
    let mut command = sandbox.command(&raw);
    command.env("BUILD_IMAGE_TRACE_PROTOCOL", &trace);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the upload has begun", || sandbox.path().join("ready").exists());
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    Run::of(&child.wait_with_output().unwrap(), None).failed(130, &["error: interrupted"]);
    assert!(contains(3, recorded(&sandbox, &trace)) >= 7);
}
