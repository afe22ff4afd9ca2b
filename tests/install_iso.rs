//! Checks what an installation is made from, and how incomplete guest output is handled.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::harness::{Run, Sandbox, TinyIso, needs, tool};

/// A program that answers like qemu. Its installer runs the file `install` and succeeds; its first boot prints the
/// file `boot`. Under kvm the kernel hangs at the point where it hangs on hosts whose kvm is unreliable.
const QEMU: &str = r#"#!/bin/sh
case "$*" in
-version*) echo 'QEMU emulator version 9.9.9' ;;
-sandbox*) exit 1 ;;
*isa-debug-exit*) echo 'build-image guest is running'; exit 33 ;;
*'-accel kvm'*)
    disk=$(printf '%s\n' "$@" | sed -n 's/^file=\(.*\.raw\),format=raw,if=virtio.*/\1/p')
    echo 'half a system' | dd of="$disk" conv=notrunc 2>/dev/null
    printf 'SeaBIOS\r\nBooting from ROM..\r\nProbing EDD (edd=off to disable)... '
    exec cat never
    ;;
*-kernel*) . ./install; echo 'MKVM FINAL STATUS = SUCCESS' ;;
*) cat boot ;;
esac
"#;
const MARKER: &str = "SELinux targeted policy relabel is required.";

fn prepared() -> Sandbox {
    let sandbox = Sandbox::new();
    TinyIso::base().write(&sandbox.path().join("base.iso"));
    let qemu = sandbox.write("qemu", QEMU);
    fs::set_permissions(qemu, fs::Permissions::from_mode(0o755)).unwrap();
    tool(sandbox.path(), &["mkfifo", "never"]);
    sandbox.write("install", "");
    sandbox.write("boot", &format!("{MARKER}\n"));
    sandbox
}

fn build(sandbox: &Sandbox, args: &[&str]) -> Run {
    let common = ["-i", "base.iso", "-p", "qcow2", "-m", "ltm", "-b", "1", "--qemu", "./qemu"];
    sandbox.run(&[&common, args].concat())
}

#[test]
fn an_iso_that_changes_while_it_is_installed_fails_the_build() {
    if !needs(&["xorriso"]) {
        return;
    }
    let sandbox = prepared();
    build(&sandbox, &[]).succeeded();
    fs::remove_dir_all(sandbox.path().join("images")).unwrap();
    for change in ["printf x >>base.iso", "cp base.iso other; mv other base.iso", "rm base.iso"] {
        let iso = fs::read(sandbox.path().join("base.iso")).unwrap();
        sandbox.write("install", change);
        build(&sandbox, &[]).failed(4, &["base.iso` changed while it was read", "hint:"]);
        assert!(!sandbox.path().join("images/BIGIP").exists());
        let raw = sandbox.files().into_iter().find(|name| name.ends_with(".raw"));
        assert_eq!(raw, None, "{change}");
        fs::write(sandbox.path().join("base.iso"), iso).unwrap();
    }
}

#[test]
fn a_first_boot_that_labels_nothing_is_a_warning_or_an_error() {
    if !needs(&["xorriso"]) {
        return;
    }
    let sandbox = prepared();
    let warned = "warning: the first boot ended without printing `SELinux targeted policy relabel";
    let run = build(&sandbox, &["--require-relabel"]);
    assert!(!run.succeeded().stderr.contains(warned), "{}", run.stderr);
    sandbox.write("boot", "login:\n");
    for _ in 0..2 {
        let run = build(&sandbox, &[]);
        assert!(run.succeeded().stderr.contains(warned), "{}", run.stderr);
        assert!(run.stderr.contains("hint: look for denials"), "{}", run.stderr);
    }
    let missing = format!("first boot: the guest ended without printing `{MARKER}`");
    build(&sandbox, &["--require-relabel"]).failed(5, &[&missing]);
}

#[test]
fn the_plan_reads_what_the_installation_starts_from() {
    if !needs(&["xorriso"]) {
        return;
    }
    let sandbox = prepared();
    let path = sandbox.path().join("base.iso");
    let plan = |iso: TinyIso| {
        iso.write(&path);
        let args = ["plan", "-i", "base.iso", "-p", "qcow2", "-m", "ltm", "-b", "1"];
        sandbox.run(&args)
    };
    let config = |text: &str| TinyIso::base().with("isolinux/isolinux.cfg", text);
    for legal in ["LABEL x\n  KERNEL vmlinuz\n  APPEND initrd=initrd.img\n", "Append x\n"] {
        let run = plan(config(legal));
        assert_eq!(run.succeeded().stderr.matches("built-in sizes").count(), 0, "{}", run.stderr);
    }
    let run = plan(TinyIso::base().without("BIGIP1500/install/ve.info.json"));
    let warning = "has no `/BIGIP1500/install/ve.info.json`: the built-in sizes";
    assert!(run.succeeded().stderr.contains(warning), "{}", run.stderr);
    let cfg = "`/isolinux/isolinux.cfg`: ";
    for (text, what) in [
        ("kernel vmlinuz\n", "no line of it begins with `append`"),
        ("append a\nappend b\n", "it has 2 `append` lines"),
        ("", "it is empty"),
    ] {
        plan(config(text)).failed(4, &["base.iso", cfg, what, "hint:"]);
    }
    for name in ["isolinux/isolinux.cfg", "isolinux/vmlinuz", "isolinux/initrd.img"] {
        plan(TinyIso::base().without(name)).failed(4, &["base.iso", name, "hint:"]);
    }
}

#[test]
fn a_guest_that_hangs_under_kvm_before_its_kernel_prints_is_soon_started_without() {
    if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        eprintln!("SKIPPED: /dev/kvm cannot be opened, so kvm is never tried");
        return;
    }
    if !needs(&["xorriso", "qemu-img"]) {
        return;
    }
    let sandbox = prepared();
    let begun = std::time::Instant::now();
    let run = build(&sandbox, &["--accel", "auto", "--package", "none"]);
    let warning = "install: the guest was silent for 18 s before its kernel ran";
    assert!(run.succeeded().stderr.contains(warning), "{}", run.stderr);
    for text in ["starting again without kvm", "… no output for "] {
        assert!(run.stderr.contains(text), "`{text}` is missing in {}", run.stderr);
    }
    assert!(begun.elapsed().as_secs() < 60, "it took {:?}", begun.elapsed());
    // The disk is a new one: nothing of the guest that hung remains.
    let image = run.member("file").as_str().unwrap();
    let raw = sandbox.path().join("made.raw");
    tool(sandbox.path(), &["qemu-img", "convert", "-O", "raw", image, raw.to_str().unwrap()]);
    let mut head = [1; 512];
    std::io::Read::read_exact(&mut fs::File::open(raw).unwrap(), &mut head).unwrap();
    assert_eq!(head, [0; 512]);
    // No build waits for kvm again until the host reboots.
    let run = build(&sandbox, &["--accel", "auto"]);
    assert!(!run.succeeded().stderr.contains("starting again"), "{}", run.stderr);
    assert!(run.stderr.contains("slow: an installing guest hung under kvm"), "{}", run.stderr);
}

/// Answers as [`QEMU`], but under kvm its guest is a real one, run by the real qemu under tcg, which prints a line
/// and then never changes a register: what is seen of a guest that kvm does not run.
const STUCK_UNDER_KVM: &str = r#"#!/bin/sh
case "$*" in
*isa-debug-exit*) ;;
*'-accel kvm'*)
    disk=$(printf '%s\n' "$@" | sed -n 's/^file=\(.*\.raw\),format=raw,if=virtio.*/\1/p')
    echo 'half a system' | dd of="$disk" conv=notrunc 2>/dev/null
    exec qemu-system-x86_64 -no-user-config -nodefaults -machine pc -m 32 -display none -serial stdio \
        -accel tcg -no-reboot -drive file=stuck.img,format=raw,if=ide,snapshot=on \
        -chardev "$(printf '%s\n' "$@" | grep '^socket,id=control,')" -mon chardev=control,mode=control
    ;;
esac
"#;

/// A boot sector: prints `up` on the serial port, then `cli; mov ax, next; next: jmp ax`.
const STUCK: [u8; 21] = [
    0xba, 0xf8, 0x03, 0xb0, b'u', 0xee, 0xb0, b'p', 0xee, 0xb0, b'\n', 0xee, 0x90, 0x90, 0xfa,
    0xb8, 0x12, 0x7c, 0xff, 0xe0, 0x00,
];

#[test]
fn a_guest_whose_processor_stands_still_under_kvm_is_started_without_within_20_s() {
    if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        eprintln!("SKIPPED: /dev/kvm cannot be opened, so kvm is never tried");
        return;
    }
    if !needs(&["xorriso", "qemu-img", "qemu-system-x86_64"]) {
        return;
    }
    let sandbox = prepared();
    let mut image = STUCK.to_vec();
    image.resize(510, 0);
    image.extend([0x55, 0xaa]);
    image.resize(1 << 20, 0);
    fs::write(sandbox.path().join("stuck.img"), image).unwrap();
    sandbox.write("qemu", &QEMU.replacen("#!/bin/sh\n", STUCK_UNDER_KVM, 1));
    let begun = std::time::Instant::now();
    let run = build(&sandbox, &["--accel", "auto", "--package", "none"]);
    let warning = "install: the guest's processor stands still at 0x00007c12 under kvm";
    assert!(run.succeeded().stderr.contains(warning), "{}", run.stderr);
    assert!(run.stderr.contains("starting again without kvm"), "{}", run.stderr);
    // The limit is 20 s; what else a build does needs seconds on a busy machine.
    assert!(begun.elapsed().as_secs() < 40, "it took {:?}", begun.elapsed());
    let run = build(&sandbox, &["--accel", "auto"]);
    assert!(!run.succeeded().stderr.contains("starting again"), "{}", run.stderr);
    assert!(run.stderr.contains("slow: an installing guest hung under kvm"), "{}", run.stderr);
}
