//! Sends signals, and closes terminals and pipes: checks what a build does when it is ended, or when its output is
//! no longer read.

use std::{
    fs,
    io::Read as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::harness::{Sandbox, until};

/// A build whose fifth part is not answered, at the moment when that part and two others have arrived.
struct Stuck {
    sandbox: Sandbox,
    child: Child,
}

/// Stalls a call for longer than any test runs.
fn stalled(call: &str) -> String {
    format!(r#"{{"operation":"{call}","action":{{"stall_ms":600000}}}}"#)
}

impl Stuck {
    fn new() -> Self {
        let sandbox = Sandbox::with_cloud();
        sandbox.disk("disk.raw", 200, 100);
        let emulator = sandbox.emulator.as_ref().unwrap();
        let part = r#"[{"operation":"UploadPart","part_number":5,"action":{"stall_ms":600000}}]"#;
        emulator.set_faults(part).unwrap();
        let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];
        let child =
            sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("three parts", || {
            emulator.wait_for_fault(Duration::from_millis(1))
                && emulator.status()["parts"].as_u64() >= Some(2)
        });
        Self { sandbox, child }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// The end of the build: exit code and output.
    fn end(mut self) -> (Sandbox, Option<i32>, String) {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (self.sandbox, self.child.wait().unwrap().code(), text)
    }
}

/// Checks that `gc` leaves nothing once the cloud answers.
#[track_caller]
fn gc_removes_all(sandbox: &Sandbox) {
    sandbox.emulator.as_ref().unwrap().set_faults("[]").unwrap();
    sandbox.run(&["gc", "--yes"]).succeeded();
    sandbox.cloud_has_only(0);
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
}

#[test]
fn one_signal_of_any_kind_cancels_and_cleans_up() {
    for name in ["-INT", "-TERM", "-HUP"] {
        let stuck = Stuck::new();
        stuck.signal(name);
        let (sandbox, code, text) = stuck.end();
        assert_eq!(code, Some(130), "{name}: {text}");
        assert!(text.contains("error: interrupted"), "{name}: {text}");
        assert!(text.contains("removed  everything that this build created"), "{name}: {text}");
        sandbox.cloud_has_only(0);
        assert!(!sandbox.path().join("artifacts").exists(), "{name}: {:?}", sandbox.files());
    }
}

#[test]
fn a_second_signal_ends_at_once_and_lists_what_remains() {
    let stuck = Stuck::new();
    let emulator = stuck.sandbox.emulator.as_ref().unwrap();
    // The first signal's clean-up gets no answer.
    let abort = format!("[{}]", stalled("AbortMultipartUpload"));
    emulator.set_faults(&abort).unwrap();
    stuck.signal("-INT");
    until("the clean-up", || emulator.wait_for_fault(Duration::from_millis(1)));
    stuck.signal("-INT");
    let (sandbox, code, text) = stuck.end();
    assert_eq!(code, Some(130), "{text}");
    for part in ["interrupted twice", "multipart_upload", "build-image gc --yes"] {
        assert!(text.contains(part), "`{part}` is missing in {text}");
    }
    let emulator = sandbox.emulator.as_ref().unwrap();
    assert_eq!(emulator.status()["open_uploads"], 1, "it did not wait for the cloud");
    gc_removes_all(&sandbox);
}

#[test]
fn a_signal_ends_a_clean_up_by_hand_and_the_next_one_finishes_it() {
    let stuck = Stuck::new();
    stuck.signal("-KILL");
    let (sandbox, ..) = stuck.end();
    let emulator = sandbox.emulator.as_ref().unwrap();
    emulator.set_faults(&format!("[{}]", stalled("AbortMultipartUpload"))).unwrap();
    let mut command = sandbox.command(&["gc", "--yes"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until("the clean-up", || emulator.wait_for_fault(Duration::from_millis(1)));
    let gc = Stuck { sandbox, child };
    gc.signal("-INT");
    let (sandbox, code, text) = gc.end();
    assert_eq!(code, Some(130), "{text}");
    assert!(text.contains("multipart_upload") && text.contains("interrupted"), "{text}");
    gc_removes_all(&sandbox);
}

#[test]
fn a_suspended_build_continues_where_it_was() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 64, 40);
    let emulator = sandbox.emulator.as_ref().unwrap();
    let part = r#"[{"operation":"UploadPart","nth":1,"action":{"hold_answer_ms":1}}]"#;
    emulator.set_faults(part).unwrap();
    let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];
    let mut child = sandbox.command(&args).spawn().unwrap();
    let signal = |name: &str| {
        assert!(
            Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success()
        );
    };
    until("a part", || emulator.wait_for_fault(Duration::from_millis(1)));
    signal("-STOP");
    let status = format!("/proc/{}/status", child.id());
    until("it is stopped", || fs::read_to_string(&status).unwrap().contains("State:\tT"));
    signal("-CONT");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    sandbox.cloud_has_only(1);
}

#[test]
fn a_build_whose_output_is_no_longer_read_is_finished() {
    let sandbox = Sandbox::with_cloud();
    sandbox.disk("disk.raw", 16, 4);
    let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba", "--json"];
    let mut child =
        sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    sandbox.cloud_has_only(1);
    // The usual way to cause it.
    let program = env!("CARGO_BIN_EXE_build-image");
    let shell = format!("set -o pipefail; '{program}' providers list --json | head -n 1");
    let output = Command::new("bash").args(["-c", &shell]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}
