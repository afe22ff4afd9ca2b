//! Tests every way in which a guest may end, with a script in place of qemu, and with the real qemu if it is
//! installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Accel, AccelWish, Boot, Machine, Outcome, Qemu, RunOptions, VerdictFile, boot_sector};
use crate::testing::{environment, program};
use crate::{Error, Kind};

/// Creates a program that answers like qemu and then runs `body` as its guest.
pub(super) fn scripted(directory: &Path, body: &str) -> Qemu {
    let path = directory.join("qemu");
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in\n-version) echo 'QEMU emulator version 9.9.9 (script)'; exit 0;;\n\
         -sandbox) exit 1;;\nesac\n{body}\n"
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    // A fork in another test may hold the new file open for writing, so that it cannot be started.
    let tries = (0..200).map(|_| Qemu::find(Some(&path), &environment()));
    tries.into_iter().find_map(Result::ok).expect("the script answers")
}

pub(super) fn machine(disk: &Path) -> Machine {
    Machine {
        memory_mib: 64,
        cpus: 1,
        accel: Accel::Tcg,
        disk: disk.to_owned(),
        cdrom: None,
        kernel: None,
        boot: Boot::Disk,
    }
}

pub(super) struct Limits {
    pub(super) total: Duration,
    pub(super) silence: Duration,
    pub(super) start: Option<Duration>,
    pub(super) hang: Option<Duration>,
    pub(super) reserve: u64,
}

const MINUTE: Duration = Duration::from_secs(60);
pub(super) const PATIENT: Limits =
    Limits { total: MINUTE, silence: MINUTE, start: None, hang: None, reserve: 0 };

pub(super) struct Ran {
    pub(super) result: Result<Outcome, Error>,
    pub(super) log: Vec<u8>,
    pub(super) lines: Vec<String>,
    pub(super) took: Duration,
}

impl Ran {
    pub(super) fn error(&self) -> &Error {
        self.result.as_ref().unwrap_err()
    }

    fn detail(&self, name: &str) -> &str {
        self.error().details().find(|(found, _)| *found == name).unwrap().1
    }
}

pub(super) fn run_with(
    qemu: &Qemu,
    disk: &Path,
    limits: &Limits,
    cancelled: &dyn Fn() -> bool,
) -> Ran {
    let log = disk.with_extension("log");
    fs::OpenOptions::new().create(true).append(true).open(disk).unwrap();
    let mut lines = Vec::new();
    let started_at = Instant::now();
    let result = qemu.run(
        &machine(disk),
        RunOptions {
            log: &log,
            success_markers: &["FINAL STATUS = SUCCESS".into(), "relabel is required.".into()],
            failure_markers: &["FINAL STATUS = FAILURE".into()],
            total_timeout: limits.total,
            silence_timeout: limits.silence,
            start_timeout: limits.start,
            hang_timeout: limits.hang,
            reserve: limits.reserve,
            on_line: &mut |line| lines.push(line.to_owned()),
            cancelled,
        },
    );
    Ran { result, log: fs::read(&log).unwrap(), lines, took: started_at.elapsed() }
}

fn run_script(body: &str, limits: &Limits) -> Ran {
    let directory = tempfile::tempdir().unwrap();
    let qemu = scripted(directory.path(), body);
    run_with(&qemu, &directory.path().join("d.raw"), limits, &|| false)
}

const BOTH: &str =
    "echo 'x relabel is required.'; printf 'FINAL STA'; printf 'TUS = SUCCESS\\r\\n'";

#[test]
fn a_good_guest_runs_on_after_its_markers() {
    let ran =
        run_script(&format!("{BOTH}; sleep 0.5; printf 'work \\033[1mafter\\033[0m'"), &PATIENT);
    let outcome = ran.result.as_ref().unwrap();
    assert_eq!(outcome.markers.len(), 2);
    assert_eq!(outcome.console_bytes, ran.log.len() as u64);
    assert_eq!(ran.lines, ["x relabel is required.", "FINAL STATUS = SUCCESS", "work after"]);
    assert!(ran.log.ends_with(b"\x1b[1mafter\x1b[0m"), "the log keeps the raw bytes");
}

#[test]
fn a_missing_marker_is_named_with_the_end_of_the_log() {
    let ran = run_script("echo 'FINAL STATUS = SUCCESS'; echo 'going \x1b[2Jdown'", &PATIENT);
    assert_eq!(ran.error().kind(), Kind::Guest);
    assert!(ran.error().to_string().contains("without printing `relabel is required.`"));
    assert_eq!(ran.detail("log"), "FINAL STATUS = SUCCESS\ngoing down");
}

#[test]
fn failures_are_recognised_at_once_even_when_the_guest_hangs() {
    for (line, hint) in [
        ("FINAL STATUS = FAILURE", "log"),
        ("[ 1.0] Kernel panic - not syncing: sysrq", "kernel"),
        ("Initramfs unpacking failed: write error", "memory"),
        ("[ 2.0] blk_update_request: I/O error, dev vda, sector 8", "host"),
    ] {
        let ran =
            run_script(&format!("{BOTH}; echo '{line}'; echo last words; sleep 600"), &PATIENT);
        assert_eq!(ran.error().kind(), Kind::Guest, "{line}");
        assert!(ran.took < Duration::from_secs(120), "{line}: {:?}", ran.took);
        assert!(ran.error().hint().unwrap().contains(hint), "{line}");
        assert!(ran.detail("log").ends_with("last words"), "what followed is kept");
    }
}

#[test]
fn qemus_own_failure_is_reported_in_its_words() {
    let ran =
        run_script(&format!("{BOTH}; echo 'qemu: could not open disk' >&2; exit 1"), &PATIENT);
    assert_eq!(ran.error().kind(), Kind::Tool);
    assert!(ran.error().to_string().contains("could not open disk"), "{}", ran.error());
    let killed = run_script("kill -9 $$", &PATIENT);
    assert_eq!(killed.error().kind(), Kind::Tool);
    assert!(killed.error().hint().unwrap().contains("memory"));
}

#[test]
fn a_guest_whose_kernel_never_prints_is_not_waited_for_as_for_a_slow_one() {
    let soon = Limits { start: Some(Duration::from_millis(400)), ..PATIENT };
    let firmware = "printf '\\033[2JSeaBIOS (version 1.16)\r\n\r\nBooting from ROM..\r\n'";
    for last in ["", "printf 'Probing EDD (edd=off to disable)... '", "echo 'Probing EDD... ok'"] {
        let ran = run_script(&format!("{firmware}; {last}\nsleep 600"), &soon);
        let text = ran.error().to_string();
        assert_eq!(ran.error().kind(), Kind::Timeout);
        assert!(text.contains("silent for 0.4 s before its kernel ran"), "{last}: {text}");
    }
    // After its first line, the usual silence timeout applies to the guest.
    let body = format!("{firmware}; echo '[    0.000000] Linux version'; sleep 1; {BOTH}");
    run_script(&body, &soon).result.unwrap();
    let silence = Duration::from_millis(300);
    let ran = run_script("sleep 600", &Limits { silence, ..soon });
    assert!(ran.error().to_string().contains("silent for 0.3 s;"), "{}", ran.error());
}

#[test]
fn watchdog_errors_name_the_watchdog_and_its_limit() {
    let silence = Limits { silence: Duration::from_millis(700), ..PATIENT };
    let ran = run_script("echo hello; sleep 600", &silence);
    assert_eq!(ran.error().kind(), Kind::Timeout);
    assert!(ran.error().to_string().contains("silent for 0.7 s"), "{}", ran.error());
    assert!(ran.error().hint().is_some());

    let total = Limits {
        total: Duration::from_millis(900),
        silence: Duration::from_millis(500),
        ..PATIENT
    };
    let ran = run_script("while echo tick; do sleep 0.1; done", &total);
    assert!(ran.error().to_string().contains("not finish within 0.9 s"), "{}", ran.error());

    let ran = run_script(&format!("{BOTH}; sleep 600"), &silence);
    assert!(ran.error().to_string().contains("after it had reported success"), "{}", ran.error());
}

#[test]
fn a_cancelled_guest_is_killed_with_its_children() {
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("pid");
    let body = format!("sleep 600 & echo $! > '{}'; echo up; wait", pid_file.display());
    let qemu = scripted(directory.path(), &body);
    let (stop, cancelled_at) = (AtomicBool::new(false), std::cell::Cell::new(None));
    let cancelled = || {
        if pid_file.exists() && !stop.swap(true, Ordering::Relaxed) {
            cancelled_at.set(Some(Instant::now()));
        }
        stop.load(Ordering::Relaxed)
    };
    let ran = run_with(&qemu, &directory.path().join("d.raw"), &PATIENT, &cancelled);
    assert_eq!(ran.error().kind(), Kind::Cancelled);
    assert!(cancelled_at.get().is_some());
    let pid = fs::read_to_string(&pid_file).unwrap();
    // Killed at once, but the process that adopted the orphan may need a moment to collect it.
    let alive = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while alive() {
        assert!(Instant::now() < deadline, "a child of the guest lives on");
        std::thread::yield_now();
    }
}

#[test]
fn a_flood_is_stopped_and_its_log_keeps_both_ends() {
    let ran = run_script("echo first words; yes 'abcdefghijklmnopqrstuvwxyz 0123456789'", &PATIENT);
    assert_eq!(ran.error().kind(), Kind::Guest);
    assert!(ran.error().to_string().contains("flooded"), "{}", ran.error());
    assert!(ran.log.len() < 9 << 20, "{}", ran.log.len());
    assert!(ran.log.starts_with(b"first words\nabc"));
    assert!(ran.log.windows(12).any(|window| window == b"are left out"));
}

#[test]
fn a_guest_without_room_for_its_disk_is_stopped_before_it_hangs() {
    let full = Limits { reserve: u64::MAX, ..PATIENT };
    let ran = run_script("echo hello; sleep 600", &full);
    assert_eq!(ran.error().kind(), Kind::NoSpace);
    assert!(ran.error().hint().unwrap().contains("free some space"));
    assert!(ran.took < Duration::from_secs(60));
}

#[test]
fn a_program_that_is_not_qemu_is_refused_with_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("none");
    for given in [nowhere.as_path(), Path::new("/bin/true"), directory.path()] {
        let error = Qemu::find(Some(given), &environment()).unwrap_err();
        assert_eq!(error.kind(), Kind::Tool, "{error}");
        assert!(error.hint().unwrap().contains("install"));
    }
    let empty = crate::process::Environment::keep([("PATH".into(), directory.path().into())]);
    assert_eq!(Qemu::find(None, &empty).unwrap_err().kind(), Kind::Tool);
}

pub(super) fn real() -> Option<Qemu> {
    program("qemu-system-x86_64").map(|path| Qemu::find(Some(&path), &environment()).unwrap())
}

#[test]
fn the_probe_guest_runs_under_tcg() {
    let Some(qemu) = real() else { return };
    let took = qemu.proven(Accel::Tcg, Duration::from_secs(60)).unwrap();
    assert!(took < Duration::from_secs(60));
    // A limit that no guest can meet proves that a hanging guest would be noticed and ended.
    let why = qemu.proven(Accel::Tcg, Duration::from_millis(1)).unwrap_err();
    assert!(why.contains("hangs"), "{why}");
}

#[test]
fn a_guest_which_does_not_print_the_word_is_not_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let qemu = scripted(directory.path(), "echo 'no kvm here' >&2; exit 33");
    let why = qemu.proven(Accel::Kvm, Duration::from_secs(20)).unwrap_err();
    assert!(why.contains("no kvm here"), "{why}");
    let word = String::from_utf8(boot_sector::WORD.to_vec()).unwrap();
    let qemu = scripted(&subfolder(directory.path()), &format!("echo '{word}'; exit 33"));
    qemu.proven(Accel::Kvm, Duration::from_secs(20)).unwrap();
}

fn subfolder(directory: &Path) -> PathBuf {
    let sub = directory.join("sub");
    fs::create_dir(&sub).unwrap();
    sub
}

#[test]
fn the_choice_of_acceleration_has_a_reason() {
    let Some(qemu) = real() else { return };
    let verdict = qemu.choose_accel(AccelWish::Auto).unwrap();
    println!("{} because {}", verdict.accel, verdict.reason);
    assert!(!verdict.reason.is_empty());
    // Whether kvm works may change from one guest to the next, but a refusal always has a hint.
    if let Err(error) = qemu.choose_accel(AccelWish::Kvm) {
        assert!(error.hint().is_some(), "{error}");
    }
    assert_eq!(qemu.choose_accel(AccelWish::Tcg).unwrap().accel, Accel::Tcg);
}

#[test]
fn kvm_is_asked_once_and_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let count = directory.path().join("count");
    // Answers the probe like a guest that runs, and counts the calls.
    let word = String::from_utf8(boot_sector::WORD.to_vec()).unwrap();
    let body = format!("echo x >>'{}'; echo '{word}'; exit 33", count.display());
    let qemu = scripted(directory.path(), &body);
    let qemu = qemu.with_verdicts(VerdictFile::in_directory(&directory.path().join("cache")));
    let calls = || fs::read_to_string(&count).unwrap_or_default().lines().count();
    let (proven, remembered) = qemu.kvm_verdict(AccelWish::Auto);
    assert!(proven.is_ok() && remembered.is_none(), "{proven:?}");
    assert_eq!(calls(), 3);
    let (proven, remembered) = qemu.kvm_verdict(AccelWish::Kvm);
    assert!(proven.is_ok() && remembered.is_some());
    assert_eq!(calls(), 3, "a remembered verdict starts no guest");
    qemu.distrust_kvm("a guest hung");
    let (proven, remembered) = qemu.kvm_verdict(AccelWish::Auto);
    assert_eq!((proven, remembered.is_some()), (Err("a guest hung".to_owned()), true));
    let (proven, remembered) = qemu.kvm_verdict(AccelWish::Kvm);
    assert!(proven.is_ok() && remembered.is_none());
    assert_eq!(calls(), 6, "who insists gets a fresh answer");
}

#[test]
fn real_qemu_accepts_a_disk_with_commas_and_blanks_in_its_name() {
    let Some(qemu) = real() else { return };
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("a, b,,c=d.raw");
    let mut bytes = boot_sector::sector().to_vec();
    bytes.resize(1 << 20, 0);
    fs::write(&disk, bytes).unwrap();
    // Without its exit device the guest halts for good, so the silence watchdog must end it.
    let limits = Limits { silence: Duration::from_secs(8), ..PATIENT };
    let ran = run_with(&qemu, &disk, &limits, &|| false);
    assert_eq!(ran.error().kind(), Kind::Timeout, "{} {:?}", ran.error(), ran.lines);
    let word = String::from_utf8_lossy(boot_sector::WORD).trim().to_owned();
    assert!(ran.lines.iter().any(|line| line.contains(&word)), "{:?}", ran.lines);
}
