//! Ends boot tests at bad moments: killed, interrupted, resumed with other settings, two at once, without space.

use std::{
    fs,
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    boot_test::{prints, sha256},
    full_disk::{self, can_mount},
    harness::{Run, Sandbox, Turn, names, needs, until},
};

const QEMU: [&str; 1] = ["qemu-system-x86_64"];
const BUILD: [&str; 7] = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba", "--boot-test"];
/// What a boot loader prints that then waits for ever.
const WAITS: &str = "GRUB loading.\r\n";
/// Requests that send something.
const SENDS: [&str; 3] = ["UploadPart", "PutObject", "InitiateMultipartUpload"];

/// Returns the processes whose arguments contain a text.
fn processes_with(text: &Path) -> Vec<String> {
    let text = text.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let arguments = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        arguments.contains(text).then_some(arguments)
    });
    processes.collect()
}

/// A cloud that keeps its requests, and a disk whose guest prints a line and waits.
struct Waiting {
    sandbox: Sandbox,
    state: tempfile::TempDir,
    temporary: PathBuf,
}

impl Waiting {
    fn new() -> Self {
        let (sandbox, state) = Sandbox::with_kept_cloud();
        prints(&sandbox, WAITS);
        let temporary = sandbox.path().join("tmp");
        fs::create_dir(&temporary).unwrap();
        Self { sandbox, state, temporary }
    }

    /// Starts a build, and returns when its guest has printed the line.
    fn started(&self) -> Child {
        let mut command = self.sandbox.command(&BUILD);
        command.env("TMPDIR", &self.temporary).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let logs = self.sandbox.path().join("logs");
        let has_printed = |name: &String| {
            name.ends_with(".boot.log")
                && fs::read(logs.join(name)).is_ok_and(|text| text.ends_with(WAITS.as_bytes()))
        };
        until("the guest", || logs.is_dir() && names(&logs).iter().any(has_printed));
        assert!(!processes_with(&self.temporary).is_empty(), "no qemu is running");
        child
    }

    fn sent(&self) -> bool {
        let requests = fs::read_to_string(self.state.path().join("requests.jsonl")).unwrap();
        SENDS.iter().any(|sent| requests.contains(sent))
    }

    fn kill(&self) {
        let mut child = self.started();
        child.kill().unwrap();
        child.wait().unwrap();
        until("the end of qemu", || processes_with(&self.temporary).is_empty());
        assert!(!self.sent());
    }
}

#[test]
fn a_killed_boot_test_takes_its_guest_with_it_and_is_repeated_unless_it_is_switched_off() {
    if !needs(&QEMU) {
        return;
    }
    let _turn = Turn::take();
    let waiting = Waiting::new();
    waiting.kill();
    // The settings of the run hold: it is booted again, and nothing is sent.
    let run = waiting.sandbox.run(&["resume", "--boot-timeout", "8s", "--on-failure", "keep"]);
    run.failed(5, &["the image does not boot: ", "not up within 8 s"]);
    assert!(!waiting.sent());
    let run = waiting.sandbox.run(&["resume", "--boot-test=false"]);
    run.succeeded();
    assert!(run.result.as_ref().unwrap().get("boot_test").is_none());
    waiting.sandbox.cloud_has_only(1);
    assert!(waiting.sent() && !waiting.sandbox.path().join("artifacts").exists());
}

#[test]
fn a_run_that_is_resumed_with_another_guest_check_uses_it() {
    if !needs(&QEMU) {
        return;
    }
    let _turn = Turn::take();
    let waiting = Waiting::new();
    waiting.kill();
    let again = ["resume", "--boot-test=false", "--guest-check"];
    let run = waiting.sandbox.run(&[&again[..], &["require", "--on-failure", "keep"]].concat());
    run.failed(6, &["does not work on machines of `alibaba`", "no system was found"]);
    assert!(!waiting.sent());
    let run = waiting.sandbox.run(&[&again[..], &["off"]].concat());
    run.succeeded();
    assert!(!run.stderr.contains("no system was found"), "{}", run.stderr);
    waiting.sandbox.cloud_has_only(1);
}

#[test]
fn an_interrupted_boot_test_undoes_the_build() {
    if !needs(&QEMU) {
        return;
    }
    let _turn = Turn::take();
    let waiting = Waiting::new();
    let mut child = waiting.started();
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(processes_with(&waiting.temporary), Vec::<String>::new());
    assert_eq!(names(&waiting.temporary), Vec::<String>::new());
    waiting.sandbox.cloud_has_only(0);
    assert!(!waiting.sent() && !waiting.sandbox.path().join("artifacts").exists());
    let logs = names(&waiting.sandbox.path().join("logs"));
    assert!(!logs.iter().any(|name| name.contains(".boot.")), "{logs:?}");
}

#[test]
fn two_boot_tests_of_a_read_only_disk_do_not_disturb_each_other() {
    if !needs(&QEMU) {
        return;
    }
    let _turn = Turn::take();
    let sandbox = Sandbox::new();
    let disk = prints(&sandbox, "stand-in login: ");
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o444)).unwrap();
    let before = sha256(&disk);
    let start = || {
        let mut command = sandbox.command(&["boot", "disk.raw", "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for child in [start(), start()] {
        let output = child.wait_with_output().unwrap();
        Run::of(&output, None).succeeded();
        let tested: Value = serde_json::from_slice(&output.stdout).unwrap();
        // The screen may be read before the console is.
        assert!(tested["evidence"].as_str().unwrap().ends_with("stand-in login:"), "{tested}");
    }
    assert!(before == sha256(&disk), "the disk was written to");
}

#[test]
fn a_build_without_qemu_ends_before_its_long_steps() {
    let sandbox = Sandbox::new();
    sandbox.disk("disk.raw", 4, 1);
    let args = ["--disk", "disk.raw", "-p", "qcow2", "--boot-test", "--qemu", "./missing"];
    let run = sandbox.run(&args);
    run.failed(5, &["missing", "hint: "]);
    assert!(!run.stderr.contains("    check  "), "{}", run.stderr);
    assert!(!sandbox.path().join("images").exists() && !sandbox.path().join("artifacts").exists());
}

#[test]
fn a_console_whose_log_does_not_fit_is_an_error_and_leaves_nothing() {
    if !needs(&QEMU) || !can_mount() {
        return;
    }
    let _turn = Turn::take();
    let sandbox = Sandbox::new();
    let disk = prints(&sandbox, &"a line of the console\r\n".repeat(10));
    // It does not halt, but prints again: jmp to the load of the address of the text.
    let disk = fs::File::options().write(true).open(disk).unwrap();
    disk.write_all_at(&[0xeb, 0xe5], 30).unwrap();
    let args = ["boot", "disk.raw", "--serial-log", "small/log"];
    let (run, left) = full_disk::run(&sandbox, "16k", &args);
    run.failed(5, &["cannot write `small/log`", "No space left on device"]);
    assert_eq!(left, [""; 0]);
}
