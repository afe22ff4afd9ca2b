//! Checks that the given disk is read only while no process writes to it, and that the image holds what the disk
//! held.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use build_image_emulator_alibaba::{Config, StateDir, Stored};

use crate::harness::{Sandbox, needs, tool, until};

/// A qemu process that has opened an image, and has reported so before this returns.
struct QemuIo(Child);

impl QemuIo {
    #[track_caller]
    fn open(args: &[&str], directory: &Path) -> Self {
        let mut command = Command::new("qemu-io");
        command.args(args).current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The answer comes when the image is open.
        child.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("MiB")), "{args:?} did not open it");
        Self(child)
    }

    fn close(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// A compressed file becomes longer in an image without compression: a build and its plan name the setting.
#[test]
fn a_compressed_disk_that_grows_is_pointed_out_with_the_setting_that_keeps_it_small() {
    if !needs(&["qemu-img", "gzip"]) {
        return;
    }
    let sandbox = Sandbox::with_cloud();
    let mut text = b"all work and no play\n".repeat(200_000);
    text.resize(8 << 20, 0);
    text[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(sandbox.path().join("disk.raw"), text).unwrap();
    tool(sandbox.path(), &["qemu-img", "convert", "-c", "-O", "qcow2", "disk.raw", "small.qcow2"]);
    tool(sandbox.path(), &["gzip", "-k", "disk.raw"]);
    for (disk, more, planned, built) in [
        ("small.qcow2", &[][..], true, true),
        ("small.qcow2", &["--alibaba-disk-compression", "zlib"], false, false),
        ("disk.raw", &[], false, false),
        // Its length is known when it is unpacked.
        ("disk.raw.gz", &[], false, true),
    ] {
        let advice = "ALIBABA_DISK_COMPRESSION=zlib sends less";
        let build = ["--disk", disk, "-c", "config.yml", "-p", "alibaba"];
        let build = [&build[..], more].concat();
        let plan = sandbox.run(&[&["plan"], &build[..]].concat());
        plan.succeeded();
        assert_eq!(plan.stdout.contains(advice), planned, "{disk} {more:?}: {}", plan.stdout);
        let run = sandbox.run(&build);
        run.succeeded();
        assert_eq!(run.stderr.contains(advice), built, "{disk} {more:?}: {}", run.stderr);
    }
}

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
}

fn qemu_io(args: &[&str], directory: &Path) -> Output {
    Command::new("qemu-io").args(args).current_dir(directory).output().unwrap()
}

#[test]
fn a_disk_that_qemu_writes_to_is_refused_before_it_is_read() {
    if !needs(&["qemu-io", "qemu-img"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let directory = sandbox.path();
    sandbox.disk("disk.raw", 8, 1);
    tool(directory, &["qemu-img", "convert", "-O", "qcow2", "disk.raw", "vm.qcow2"]);
    let flat = ["-O", "vmdk", "-o", "subformat=monolithicFlat", "disk.raw", "vm.vmdk"];
    tool(directory, &[&["qemu-img", "convert"], &flat[..]].concat());
    for (given, opened, args) in [
        ("vm.qcow2", "vm.qcow2", &["-f", "qcow2", "vm.qcow2"][..]),
        ("disk.raw", "disk.raw", &["-f", "raw", "disk.raw"]),
        ("vm.vmdk", "vm-flat.vmdk", &["-f", "raw", "vm-flat.vmdk"]),
    ] {
        let build = ["--disk", given, "-p", "qcow2", "--package", "none", "--image-dir", "made"];
        let in_use =
            format!("{opened}` is in use by another process (qemu has it open for writing)");
        let writer = QemuIo::open(args, directory);
        sandbox.run(&build).failed(4, &[&in_use, "hint: shut its machine down"]);
        assert!(!directory.join("made").exists(), "{:?}", sandbox.files());
        writer.close();
        let reader = QemuIo::open(&[&["-r"], args].concat(), directory);
        sandbox.run(&build).succeeded();
        reader.close();
        fs::remove_dir_all(directory.join("made")).unwrap();
    }
}

#[test]
fn qemu_does_not_write_to_a_disk_that_is_uploaded() {
    if !needs(&["qemu-io", "qemu-img"]) {
        return;
    }
    let sandbox = Sandbox::with_cloud();
    let directory = sandbox.path();
    sandbox.disk("disk.raw", 64, 26);
    let emulator = sandbox.emulator.as_ref().unwrap();
    let stalled = r#"[{"operation":"UploadPart","action":{"stall_ms":600000}}]"#;
    emulator.set_faults(stalled).unwrap();
    let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba"];
    let mut child =
        sandbox.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("a part", || emulator.wait_for_fault(Duration::from_millis(1)));
    let write = ["-f", "raw", "-c", "write 0 512", "disk.raw"];
    let refused = qemu_io(&write, directory);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("lock"), "{text}");
    let read = qemu_io(&["-r", "-f", "raw", "-c", "read 0 512", "disk.raw"], directory);
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    child.kill().unwrap();
    child.wait().unwrap();
    let free = qemu_io(&write, directory);
    assert!(free.status.success(), "{}", String::from_utf8_lossy(&free.stderr));
}

#[test]
fn a_disk_that_is_written_while_its_digest_is_taken_is_refused() {
    let sandbox = Sandbox::new();
    let path = sandbox.path().join("disk.raw");
    sandbox.disk("disk.raw", 1024, 1);
    let digest = "0".repeat(64);
    let args = ["--disk", "disk.raw", "-p", "qcow2", "--package", "none", "--disk-sha256", &digest];
    let mut command = sandbox.command(&args);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains("checking disk.raw") {
        assert_ne!(stderr.read_line(&mut text).unwrap(), 0, "it ended before: {text}");
    }
    signal(&child, "-STOP");
    let before = path.metadata().unwrap().modified().unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[7; 512], (1024 << 20) - 512).unwrap();
    // The time stamp is restored, as `touch -r` and copying programs do.
    file.set_modified(before).unwrap();
    signal(&child, "-CONT");
    stderr.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4), "{text}");
    assert!(text.contains("disk.raw` changed while it was read"), "{text}");
    assert!(!sandbox.path().join("images/disk.qcow2").exists());
}

/// The object is complete and its upload is known; another disk of the same size and time replaces the first one.
#[test]
fn a_resumed_build_sends_the_disk_that_is_there_now_whatever_its_time() {
    let state = tempfile::tempdir().unwrap();
    let cloud = state.path().join("cloud");
    let sandbox = Sandbox::with_cloud_of(Config {
        state: StateDir::Kept(cloud.clone()),
        ..Config::default()
    });
    let path = sandbox.disk("disk.raw", 16, 4);
    let emulator = sandbox.emulator.as_ref().unwrap();
    let refuse = r#"[{"operation":"ImportImage","nth":2,"action":{"status":403,"code":"QuotaExceed.Image"}}]"#;
    emulator.set_faults(refuse).unwrap();
    let args = ["--disk", "disk.raw", "-c", "config.yml", "-p", "alibaba", "--on-failure", "keep"];
    sandbox.run(&args).failed(6, &["QuotaExceed.Image"]);
    assert_eq!(emulator.status()["objects"], 1, "the upload is complete");
    emulator.set_faults("[]").unwrap();
    let before = path.metadata().unwrap().modified().unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[7; 4096], 2 << 20).unwrap();
    file.set_modified(before).unwrap();
    drop(file);
    let run = sandbox.run(&["resume"]);
    let image = run.succeeded().member("image_id").as_str().unwrap();
    let exported = state.path().join("exported.raw");
    Stored::open(&cloud).unwrap().export(image, &exported).unwrap();
    assert!(fs::read(&exported).unwrap() == fs::read(&path).unwrap(), "the image is the old disk");
    sandbox.cloud_has_only(1);
}

#[test]
fn a_disk_that_is_written_while_it_is_sent_fails_the_build_and_leaves_nothing() {
    for cloud in [true, false] {
        let sandbox = Sandbox::with_cloud();
        let path = sandbox.disk("disk.raw", 64, 26);
        let emulator = sandbox.emulator.as_ref().unwrap();
        let stalled = r#"[{"operation":"UploadPart","nth":1,"action":{"stall_ms":2000}}]"#;
        emulator.set_faults(stalled).unwrap();
        let args = ["--disk", "disk.raw", "-c", "config.yml", "-p"];
        let more = if cloud { &["alibaba"][..] } else { &["qcow2", "--progress", "plain"] };
        let mut command = sandbox.command(&[&args, more].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut text = String::new();
        if cloud {
            until("a part", || emulator.wait_for_fault(Duration::from_millis(1)));
        } else {
            while !text.contains("writing") {
                assert_ne!(stderr.read_line(&mut text).unwrap(), 0, "it ended before: {text}");
            }
        }
        signal(&child, "-STOP");
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[7; 512], 0).unwrap();
        signal(&child, "-CONT");
        stderr.read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(4), "{text}");
        assert!(text.contains("disk.raw` changed while it was read"), "{text}");
        sandbox.cloud_has_only(0);
        let left = sandbox.files().into_iter().filter(|name| name.contains("qcow2"));
        let left: Vec<String> = left.filter(|name| !name.starts_with("logs")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
