//! Checks guests that fail, hang, print without end or restart: one clear error each, with the guest's last
//! output, and nothing left but the log.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::harness::{Iso, Run, Sandbox, Turn, needs_qemu};

/// A build that may reach the cloud, in a separate sandbox.
fn build(sandbox: &Sandbox, args: &[&str]) -> Run {
    let common = ["-c", "config.yml", "-p", "alibaba", "-m", "ltm", "-b", "1", "--accel", "tcg"];
    sandbox.run(&[&common, args].concat())
}

/// A build that fails.
struct Ending<'a> {
    /// Variants of the ISO and of the hotfix.
    isos: &'a [&'a str],
    /// Further command-line arguments.
    more: &'a [&'a str],
    /// Log of the pass it fails in.
    log: &'a str,
    /// Texts that the user must be shown.
    texts: &'a [&'a str],
}

const ISO_LOG: &str = "qemu.iso.log";
const DONE: &str = "MKVM FINAL STATUS = SUCCESS";
const ENDED: &str = "ended without printing `MKVM FINAL STATUS = SUCCESS`";

/// Checks that each build ends as described and leaves only the log.
fn end(endings: &[Ending<'_>]) {
    if !needs_qemu() {
        return;
    }
    let _turn = Turn::take();
    for Ending { isos, more, log, texts } in endings {
        let sandbox = Sandbox::with_cloud();
        let isos: Vec<Iso> = isos.iter().map(|variant| Iso::of(variant)).collect();
        let given = ["-i", "-e"].into_iter().zip(&isos).flat_map(|(flag, iso)| [flag, iso.word()]);
        let args: Vec<&str> = given.chain(more.iter().copied()).collect();
        let run = build(&sandbox, &args);
        run.failed(5, &[texts, &[*log, "hint:"][..]].concat());
        assert!(!run.stderr.contains('\u{1b}'), "escape sequences reach the user: {}", run.stderr);
        sandbox.cloud_has_only(0);
        let files = sandbox.files();
        let left = |name: &String| name.ends_with(".raw") || name.contains("tmp.");
        assert!(!files.iter().any(left), "{args:?}: {files:?}");
        let log = files.iter().find(|name| name.ends_with(log)).expect("the log is kept");
        let size = fs::metadata(sandbox.path().join(log)).unwrap().len();
        assert!((1..9 << 20).contains(&size), "{args:?}: a log of {size} bytes");
    }
}

/// An installer that fails in its first pass.
const fn installer<'a>(
    isos: &'a [&'a str],
    more: &'a [&'a str],
    texts: &'a [&'a str],
) -> Ending<'a> {
    Ending { isos, more, log: ISO_LOG, texts }
}

#[test]
fn installers_that_end_badly() {
    let failure = "reported `MKVM FINAL STATUS = FAILURE`";
    end(&[
        installer(&["installer-fails"], &[], &[failure, "FAILED CHECK: asked to fail"]),
        installer(&["kernel-panic"], &[], &["Kernel panic - not syncing", "about to panic"]),
        installer(&["no-marker"], &[], &[ENDED, "ending without a marker"]),
        installer(&["wrong-marker"], &[], &[ENDED, "HOTFIXVM FINAL STATUS = SUCCESS"]),
        installer(&["reboots-at-once"], &[], &[ENDED, "rebooting"]),
    ]);
}

#[test]
fn installers_that_do_not_end() {
    let reported = "silent for 25 s (after it had reported success)";
    end(&[
        installer(&["installer-silent"], &["--silence-timeout", "10s"], &["silent for 10 s"]),
        installer(&["installer-silent"], &["--install-timeout", "12s"], &["within 12 s"]),
        // Output alone is not progress: the other watchdog ends it.
        installer(
            &["flood"],
            &["--install-timeout", "25s", "--silence-timeout", "20s"],
            &["within 25 s", "one line of very many"],
        ),
        installer(&["hang-after-marker"], &["--silence-timeout", "25s"], &[reported, DONE]),
    ]);
}

#[test]
fn later_passes_that_fail() {
    let failure = "reported `HOTFIXVM FINAL STATUS = FAILURE`";
    let missing = "`SELinux targeted policy relabel is required.`";
    end(&[
        Ending {
            isos: &["ok", "hotfix-fails"],
            more: &[],
            log: "qemu.hotfix.log",
            texts: &["hotfix: ", failure, "asked to fail"],
        },
        Ending {
            isos: &["relabel-no-marker"],
            more: &[],
            log: "qemu.selinux_relabeling.log",
            texts: &["first boot: ", missing],
        },
    ]);
}

/// Answers probe guests like a working kvm, and then hangs under it.
const FICKLE_QEMU: &str = r#"#!/bin/sh
case "$*" in
-version*) echo 'QEMU emulator version 9.9.9' ;;
-sandbox*) ;;
*isa-debug-exit*) echo 'build-image guest is running'; exit 33 ;;
*'-accel kvm'*) echo 'booting'; exec sleep 600 ;;
*) echo 'MKVM FINAL STATUS = FAILURE' ;;
esac
"#;

#[test]
fn a_guest_that_hangs_under_kvm_is_started_again_and_kvm_not_trusted_until_the_next_boot() {
    if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        eprintln!("SKIPPED: /dev/kvm cannot be opened, so kvm is never tried");
        return;
    }
    if !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::new();
    let iso = Iso::of("unbootable");
    let qemu = sandbox.write("qemu", FICKLE_QEMU);
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    let qemu = qemu.to_str().unwrap();
    let args = ["-i", iso.word(), "-p", "qcow2", "-m", "ltm", "-b", "1", "--accel", "auto"];
    let args = [&args[..], &["--qemu", qemu, "--silence-timeout", "2s"]].concat();
    sandbox.run(&args).failed(5, &["starting again without kvm", "MKVM FINAL STATUS = FAILURE"]);
    let run = sandbox.run(&args);
    run.failed(5, &["slow: an installing guest hung under kvm"]);
    assert!(!run.stderr.contains("starting again"), "{}", run.stderr);
}

#[test]
fn a_guest_that_hangs_without_kvm_too_is_not_the_fault_of_kvm() {
    if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        eprintln!("SKIPPED: /dev/kvm cannot be opened, so kvm is never tried");
        return;
    }
    if !needs_qemu() {
        return;
    }
    let sandbox = Sandbox::new();
    let iso = Iso::of("unbootable");
    let hangs = "echo 'booting'; exec sleep 600 ;;";
    let script = FICKLE_QEMU.replace("echo 'MKVM FINAL STATUS = FAILURE' ;;", hangs);
    assert_eq!(script.matches(hangs).count(), 2);
    let qemu = sandbox.write("qemu", &script);
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    let qemu = qemu.to_str().unwrap();
    let args = ["-i", iso.word(), "-p", "qcow2", "-m", "ltm", "-b", "1", "--accel", "auto"];
    let args = [&args[..], &["--qemu", qemu, "--silence-timeout", "2s"]].concat();
    for _ in 0..2 {
        sandbox.run(&args).failed(5, &["starting again without kvm", "silent for 2 s"]);
    }
}
