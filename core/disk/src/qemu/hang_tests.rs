//! Tests the watch over the processors with real guests in the real qemu. They run under tcg, which stands in
//! for kvm: the watch is the same, without kvm's counters.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::tests::{Limits, PATIENT, Ran, real, run_with, scripted};
use super::watch::Watch;
use crate::Kind;

const SILENCE: Duration = Duration::from_secs(9);
const HANG: Duration = Duration::from_secs(3);
/// cli; mov ax, next; next: jmp ax: the watch cannot distinguish it from a processor that kvm does not run.
const STUCK: [u8; 6] = [0xfa, 0xb8, 0x10, 0x7c, 0xff, 0xe0];

/// Returns a boot sector that prints a line and then runs `code`, which is loaded at 0x7c0c.
fn sector(code: &[u8]) -> Vec<u8> {
    #[rustfmt::skip]
    let mut sector = vec![
        0xba, 0xf8, 0x03,   // mov dx, 0x3f8
        0xb0, b'!', 0xee,   // mov al, '!'; out dx, al
        0xb0, b'\n', 0xee,  // mov al, '\n'; out dx, al
        0x90, 0x90, 0x90,   // nop
    ];
    sector.extend_from_slice(code);
    sector.resize(510, 0);
    sector.extend_from_slice(&[0x55, 0xaa]);
    sector.resize(1 << 20, 0);
    sector
}

fn run(
    directory: &Path,
    code: &[u8],
    silence: Duration,
    cancelled: &dyn Fn() -> bool,
) -> Option<Ran> {
    let disk = directory.join("d.raw");
    fs::write(&disk, sector(code)).unwrap();
    let limits = Limits { silence, hang: Some(HANG), ..PATIENT };
    let ran = run_with(&real()?, &disk, &limits, cancelled);
    assert!(ran.lines.iter().any(|line| line.ends_with('!')), "{:?}", ran.lines);
    assert_eq!(ran.error().kind(), Kind::Timeout);
    Some(ran)
}

#[test]
fn a_guest_that_uses_its_processor_and_never_changes_a_register_is_hung() {
    let directory = tempfile::tempdir().unwrap();
    let Some(ran) = run(directory.path(), &STUCK, PATIENT.silence, &|| false) else { return };
    let text = ran.error().to_string();
    assert!(text.contains("processor stands still at 0x00007c10 under kvm"), "{text}");
    assert!(ran.error().hint().is_some());
}

#[test]
fn guests_that_wait_or_loop_by_themselves_are_left_to_the_limit_of_silence() {
    let check = |(what, code): (&str, &[u8])| {
        let directory = tempfile::tempdir().unwrap();
        let Some(ran) = run(directory.path(), code, SILENCE, &|| false) else { return };
        let text = ran.error().to_string();
        assert!(text.contains("silent for 9 s"), "{what}: {text}");
    };
    std::thread::scope(|scope| {
        for guest in [
            // sti; hlt; jmp
            ("an idle guest", &[0xfb, 0xf4, 0xeb, 0xfc][..]),
            // cli; hlt
            ("a guest that stopped for good", &[0xfa, 0xf4]),
            // cli; jmp to itself
            ("a loop", &[0xfa, 0xeb, 0xfe]),
            // cli; again: pause; jmp again
            ("a spin loop", &[0xfa, 0xf3, 0x90, 0xeb, 0xfc]),
            // cli; mov dx, 0x3fd; again: in al, dx; jmp again
            ("a guest that polls a device", &[0xfa, 0xba, 0xfd, 0x03, 0xec, 0xeb, 0xfd]),
        ] {
            scope.spawn(move || check(guest));
        }
    });
}

#[test]
fn a_qemu_that_was_stopped_is_not_hung() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, stopped) = (directory.path().join("d.raw"), Cell::new(false));
    let stop = || {
        // The processor must be busy when it is stopped: the guest has begun to print.
        let log = fs::read(directory.path().join("d.log")).unwrap_or_default();
        if !stopped.get() && log.contains(&b'!') {
            kill_process(process_with(&disk), Signal::STOP).unwrap();
            stopped.set(true);
        }
        false
    };
    let Some(ran) = run(directory.path(), &STUCK, SILENCE, &stop) else { return };
    let text = ran.error().to_string();
    assert!(stopped.get() && text.contains("silent for 9 s"), "{text}");
}

/// Returns the process whose arguments contain a path.
fn process_with(path: &Path) -> Pid {
    let path = path.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let number: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let arguments = fs::read(format!("/proc/{number}/cmdline")).ok()?;
        String::from_utf8_lossy(&arguments).contains(path).then_some(number)
    });
    Pid::from_raw(processes.min().expect("qemu runs")).unwrap()
}

#[test]
fn a_program_without_the_protocol_is_not_watched_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = directory.path().join("arguments");
    let body = format!("printf '%s\\n' \"$@\" >'{}'; exec sleep 600", arguments.display());
    let qemu = scripted(directory.path(), &body);
    let silence = Duration::from_secs(5);
    let limits = Limits { silence, hang: Some(Duration::from_secs(1)), ..PATIENT };
    let ran = run_with(&qemu, &directory.path().join("d.raw"), &limits, &|| false);
    assert!(ran.error().to_string().contains("silent for 5 s"), "{}", ran.error());
    let arguments = fs::read_to_string(arguments).unwrap();
    let socket = arguments.lines().find_map(|line| line.split_once(",path=")).unwrap().1;
    assert!(!Path::new(socket).parent().unwrap().exists(), "{socket}");
}

#[test]
fn looks_see_the_threads_of_qemu() {
    let Some(qemu) = real() else { return };
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("d.raw");
    fs::write(&disk, sector(&[0xfa, 0xeb, 0xfe])).unwrap();
    let socket = super::qmp::ControlSocket::create().unwrap();
    let mut call = qemu.call(&super::tests::machine(&disk));
    call.args.extend(socket.arguments());
    let _running = call.spawn().unwrap();
    let watch = Watch::start(socket.path());
    let last = [(); 3].map(|()| watch.wait(Duration::from_secs(60)))[2].clone();
    assert!(last.answered && last.running, "{last:?}");
    let cpu = &last.cpus[0];
    assert!(cpu.thread.is_some() && last.main.is_some() && !cpu.halted, "{last:?}");
    assert!(cpu.code.starts_with(&[0xeb, 0xfe]), "{last:?}");
    // The socket was removed when the watch had connected.
    assert!(!socket.path().exists());
}
