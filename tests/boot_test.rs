//! Boots disks before they are sent and on request: tiny ones with a planted end, and a distribution.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    build_debian::debian,
    harness::{Run, Sandbox, Turn, names, needs, target_directory, tool, until},
};

/// Writes a disk of 16 MiB whose boot sector prints a text on the serial port and halts.
pub(crate) fn prints(sandbox: &Sandbox, text: &str) -> PathBuf {
    #[rustfmt::skip]
    let mut disk = vec![
        0xfc, 0x31, 0xc0, 0x8e, 0xd8,   // cld; xor ax, ax; mov ds, ax
        0xbe, 0x40, 0x7c,               // mov si, 0x7c40
        0xba, 0xf8, 0x03,               // mov dx, 0x3f8
        0xac, 0x84, 0xc0, 0x74, 0x03,   // next: lodsb; test al, al; jz done
        0xee, 0xeb, 0xf8,               // out dx, al; jmp next
        0xfa, 0xf4,                     // done: cli; hlt
    ];
    disk.resize(0x40, 0);
    disk.extend(text.as_bytes());
    disk.resize(510, 0);
    disk.extend([0x55, 0xaa]);
    disk.resize(16 << 20, 0);
    let path = sandbox.path().join("disk.raw");
    fs::write(&path, disk).unwrap();
    path
}

fn sha256(path: &Path) -> Vec<u8> {
    let mut hash = Sha256::new();
    std::io::copy(&mut fs::File::open(path).unwrap(), &mut hash).unwrap();
    hash.finalize().to_vec()
}

/// Runs `boot` and returns its result document.
fn boot(sandbox: &Sandbox, args: &[&str]) -> (Run, Value) {
    let output = sandbox.command(&[&["boot", "--json"], args].concat()).output().unwrap();
    let document = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (Run::of(&output, None), document)
}

#[test]
fn a_debian_disk_comes_up_from_the_bytes_that_are_sent() {
    let tools = ["qemu-system-x86_64", "mmdebstrap", "syslinux", "mcopy", "mkfs.vfat", "sfdisk"];
    if !needs(&tools) {
        return;
    }
    let _turn = Turn::take();
    let sandbox = Sandbox::with_cloud();
    let disk = debian();
    let before = sha256(&disk);
    let disk = disk.to_str().unwrap();
    let args = ["--disk", disk, "-c", "config.yml", "-p", "alibaba", "--boot-test"];
    let run = sandbox.run(&args);
    run.succeeded();
    sandbox.cloud_has_only(1);
    let tested = run.member("boot_test");
    assert_eq!((&tested["ready"], &tested["stage"]), (&true.into(), &"ready".into()), "{tested}");
    assert_eq!(tested["served"], true, "{tested}");
    assert!(tested["serial_log"].is_null() && tested["screen"].is_null(), "{tested}");
    assert!(before == sha256(Path::new(disk)), "the disk was written to");
    let left: Vec<String> = names(&sandbox.path().join("logs"));
    assert!(!left.iter().any(|name| name.contains(".boot.")), "{left:?}");
}

#[test]
fn the_image_is_booted_in_the_format_that_is_sent() {
    if !needs(&["qemu-system-x86_64"]) {
        return;
    }
    let _turn = Turn::take();
    let sandbox = Sandbox::new();
    prints(&sandbox, "stand-in login: ");
    // The dynamic VHD and the qcow2 image are views; the VMDK is written while it is read. In a ZIP file there is
    // nothing that boots.
    for (provider, package, format) in [
        ("vhd", "none", "vhd"),
        ("qcow2", "none", "qcow2"),
        ("vmware", "none", "vmdk"),
        ("qcow2", "archive", "raw"),
    ] {
        let args = ["--disk", "disk.raw", "-p", provider, "--package", package, "--boot-test"];
        let run = sandbox.run(&args);
        run.succeeded();
        let tested = run.member("boot_test");
        assert_eq!((&tested["ready"], &tested["served"]), (&true.into(), &true.into()), "{tested}");
        assert_eq!(tested["format"], format, "{provider}: {tested}");
        let took = run.member("durations")["boot"].as_f64().unwrap();
        assert!(took > 0.0, "{took}");
    }
}

#[test]
fn an_image_that_does_not_boot_is_not_sent() {
    if !needs(&["qemu-system-x86_64"]) {
        return;
    }
    let _turn = Turn::take();
    let (sandbox, state) = Sandbox::with_kept_cloud();
    prints(&sandbox, "error: unknown filesystem.\r\nEntering rescue mode...\r\ngrub rescue> ");
    let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba", "--boot-test"];
    let run = sandbox.run(&args);
    let error = "the image does not boot: boot loader: grub rescue>";
    run.failed(
        5,
        &[error, "Entering rescue mode...", "hint: install and configure the boot loader"],
    );
    sandbox.cloud_has_only(0);
    let requests = fs::read_to_string(state.path().join("requests.jsonl")).unwrap();
    for sent in ["UploadPart", "PutObject", "InitiateMultipartUpload"] {
        assert!(!requests.contains(sent), "{sent} was requested");
    }
    let tested = run.member("boot_test");
    assert_eq!((&tested["ready"], &tested["stage"]), (&false.into(), &"boot loader".into()));
    let log =
        fs::read_to_string(sandbox.path().join(tested["serial_log"].as_str().unwrap())).unwrap();
    assert!(log.contains("Entering rescue mode"), "{log}");
    let screen = fs::read(sandbox.path().join(tested["screen"].as_str().unwrap())).unwrap();
    assert!(screen.starts_with(b"\x89PNG"), "the picture is not a PNG file");
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
}

#[test]
fn boot_reports_how_far_a_disk_came_and_writes_nothing_to_it() {
    if !needs(&["qemu-system-x86_64", "qemu-img"]) {
        return;
    }
    let _turn = Turn::take();
    let sandbox = Sandbox::new();
    prints(&sandbox, "Debian GNU/Linux 12 stand-in ttyS0\r\n\r\nstand-in login: ");
    for format in ["qcow2", "vpc", "vmdk", "vdi", "vhdx"] {
        tool(
            sandbox.path(),
            &["qemu-img", "convert", "-O", format, "disk.raw", &format!("d.{format}")],
        );
    }
    let files = ["disk.raw", "d.qcow2", "d.vpc", "d.vmdk", "d.vdi", "d.vhdx"];
    let digests = || files.map(|file| sha256(&sandbox.path().join(file)));
    let before = digests();
    for (file, bus) in files.into_iter().zip(["virtio", "nvme", "scsi", "sata", "virtio", "virtio"])
    {
        let (run, tested) = boot(&sandbox, &[file, "--boot-disk-bus", bus, "--boot-nic", "e1000"]);
        run.succeeded();
        assert_eq!(
            (&tested["ready"], &tested["served"]),
            (&true.into(), &false.into()),
            "{tested}"
        );
        assert_eq!(tested["evidence"], "stand-in login:", "{file}");
    }
    assert!(before == digests(), "a disk was written to");
    // With a marker, a login prompt is not enough.
    let args = ["disk.raw", "--boot-marker", "application is up", "--boot-timeout", "8s"];
    let (run, tested) = boot(&sandbox, &args);
    run.failed(5, &["does not boot: system: not up within 8 s", "hint: "]);
    assert_eq!(tested["ready"], false);
    let (run, tested) = boot(&sandbox, &["disk.raw", "--boot-marker", "GNU/Linux 12 stand-in"]);
    run.succeeded();
    assert!(tested["evidence"].as_str().unwrap().contains("GNU/Linux 12 stand-in"), "{tested}");
}

#[test]
fn boot_names_what_is_wrong() {
    if !needs(&["qemu-system-x86_64"]) {
        return;
    }
    let _turn = Turn::take();
    let sandbox = Sandbox::new();
    prints(&sandbox, "");
    let keeps = ["--serial-log", "serial.log", "--screen", "screen.png"];
    let silent = [&["disk.raw", "--boot-timeout", "10s"], &keeps[..]].concat();
    boot(&sandbox, &silent).0.failed(5, &["does not boot: silent: not up within 10 s"]);
    assert!(fs::read_to_string(sandbox.path().join("serial.log")).unwrap().contains("SeaBIOS"));
    assert!(fs::read(sandbox.path().join("screen.png")).unwrap().starts_with(b"\x89PNG"));
    // Neither file is replaced.
    boot(&sandbox, &silent).0.failed(2, &["`serial.log` exists already", "hint: "]);
    fs::write(sandbox.path().join("zeros.raw"), vec![0; 1 << 20]).unwrap();
    let (run, _) = boot(&sandbox, &["zeros.raw"]);
    run.failed(5, &["does not boot: firmware: No bootable device", "not a bootable disk"]);
    boot(&sandbox, &["nothing.raw"]).0.failed(4, &["nothing.raw"]);
    boot(&sandbox, &[]).0.failed(2, &["<FILE>"]);
    boot(&sandbox, &["disk.raw", "--boot-nic", "wifi"]).0.failed(2, &["BOOT_NIC"]);
    sandbox.write("qemu", "#!/bin/sh\nexit 1\n");
    boot(&sandbox, &["disk.raw", "--qemu", "./qemu"]).0.failed(5, &["hint: "]);
    let has_ovmf = ["OVMF", "edk2", "edk2-ovmf"]
        .iter()
        .any(|name| Path::new("/usr/share").join(name).exists());
    if !has_ovmf {
        let texts = ["OVMF, which boots UEFI disks, is not installed", "apt-get install ovmf"];
        boot(&sandbox, &["disk.raw", "--boot-firmware", "uefi"]).0.failed(5, &texts);
        // A build says so before its long steps.
        let build = ["--disk", "disk.raw", "-p", "qcow2", "--boot-test", "--boot-firmware", "uefi"];
        let run = sandbox.run(&build);
        run.failed(5, &texts);
        assert!(!run.stderr.contains("    check  "), "{}", run.stderr);
    }
}

#[test]
fn an_interrupted_boot_leaves_nothing() {
    if !needs(&["qemu-system-x86_64"]) {
        return;
    }
    let _turn = Turn::take();
    let sandbox = Sandbox::new();
    prints(&sandbox, "GRUB loading.\r\n");
    let temporary = sandbox.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut command =
        sandbox.command(&["boot", "disk.raw", "--progress", "plain", "--serial-log", "log"]);
    command.env("TMPDIR", &temporary).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let log = sandbox.path().join("log");
    until("the guest", || fs::read(&log).is_ok_and(|text| text.ends_with(b"GRUB loading.\r\n")));
    assert!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success()
    );
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{text}");
    assert!(text.contains("error: interrupted"), "{text}");
    assert_eq!(names(&temporary), Vec::<String>::new());
    assert!(!log.exists());
}

/// A fault in the fixture's disk: its name, the commands that plant it, and the stage that must be reported.
struct Fault {
    name: &'static str,
    plant: &'static str,
    stage: &'static str,
    evidence: &'static str,
}

/// Replaces the boot loader's configuration, which is on the first partition.
macro_rules! boots_with {
    ($words:literal) => {
        concat!(
            "printf 'SERIAL 0 115200\\nDEFAULT linux\\nLABEL linux\\n",
            $words,
            "\\n' >syslinux.cfg && mcopy -o -i disk.raw@@1M syslinux.cfg ::"
        )
    };
}

const FAULTS: [Fault; 9] = [
    Fault { name: "no fault", plant: "true", stage: "ready", evidence: "Reached target" },
    Fault {
        name: "no boot record",
        plant: "dd if=/dev/zero of=disk.raw bs=512 count=1 conv=notrunc status=none",
        stage: "firmware",
        evidence: "No bootable device",
    },
    Fault {
        name: "no active partition",
        plant: "printf '\\0' | dd of=disk.raw bs=1 seek=446 conv=notrunc status=none",
        stage: "boot loader",
        evidence: "operating system",
    },
    Fault {
        name: "no kernel",
        plant: boots_with!(" KERNEL missing\\n APPEND console=ttyS0"),
        stage: "boot loader",
        evidence: "failed: No such file or directory",
    },
    Fault {
        name: "no initramfs",
        plant: boots_with!(" KERNEL vmlinuz\\n APPEND root=/dev/vda2 ro console=ttyS0"),
        stage: "panic",
        evidence: "Unable to mount root fs",
    },
    Fault {
        name: "a root that does not exist",
        plant: boots_with!(
            " KERNEL vmlinuz\\n INITRD initrd\\n APPEND root=/dev/vda9 ro console=ttyS0"
        ),
        stage: "initramfs",
        evidence: "/dev/vda9 does not exist",
    },
    Fault {
        name: "a file system that does not exist",
        plant: "printf '/dev/vda2 / ext4 defaults 0 1\\nUUID=0000-0000 /data ext4 defaults,x-systemd.device-timeout=5 0 2\\n' >fstab && \
                debugfs -w -R 'rm /etc/fstab' 'disk.raw?offset=135266304' 2>/dev/null && \
                debugfs -w -R 'write fstab /etc/fstab' 'disk.raw?offset=135266304' 2>/dev/null",
        stage: "emergency mode",
        evidence: "emergency mode",
    },
    Fault {
        name: "no serial console, but a screen with text",
        plant: boots_with!(
            " KERNEL vmlinuz\\n INITRD initrd\\n APPEND root=/dev/vda2 ro console=tty0 nomodeset"
        ),
        stage: "ready",
        evidence: "login:",
    },
    Fault {
        name: "a damaged initramfs",
        plant: "dd if=/dev/urandom of=noise bs=1M count=1 status=none && \
                mcopy -i disk.raw@@1M ::initrd initrd && dd if=noise of=initrd bs=1M conv=notrunc status=none && \
                mcopy -o -i disk.raw@@1M initrd ::",
        stage: "kernel",
        evidence: "Initramfs unpacking failed",
    },
];

/// Only with BUILD_IMAGE_SOAK_BOOT=1, as in `make soak PART=boot`.
#[test]
fn every_planted_fault_is_named_by_its_stage() {
    if std::env::var_os("BUILD_IMAGE_SOAK_BOOT").is_none() {
        return;
    }
    let tools =
        ["qemu-system-x86_64", "mmdebstrap", "syslinux", "mcopy", "mkfs.vfat", "sfdisk", "debugfs"];
    if !needs(&tools) {
        return;
    }
    let _turn = Turn::take();
    let disk = debian();
    let mut wrong = Vec::new();
    for Fault { name, plant, stage, evidence } in FAULTS {
        let sandbox = Sandbox::new();
        let directory = tempfile::tempdir_in(target_directory()).unwrap();
        let copy = directory.path().join("disk.raw");
        tool(directory.path(), &["cp", "--sparse=always", disk.to_str().unwrap(), "disk.raw"]);
        tool(
            directory.path(),
            &["sh", "-e", "-c", &format!("PATH=$PATH:/sbin:/usr/sbin; {plant}")],
        );
        let begun = std::time::Instant::now();
        let (_, tested) = boot(&sandbox, &[copy.to_str().unwrap(), "--boot-timeout", "4m"]);
        let seconds = begun.elapsed().as_secs();
        println!("{name}: {} ({seconds} s): {}", tested["stage"], tested["evidence"]);
        let proven = tested["evidence"].as_str().is_some_and(|found| found.contains(evidence));
        if tested["stage"] != stage || !proven {
            wrong.push(format!("{name}: {tested:#}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
