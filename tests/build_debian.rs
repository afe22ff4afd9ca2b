//! Uploads the disk of a distribution and boots what was imported.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use build_image_emulator_alibaba::{Config, StateDir, Stored};

use crate::harness::{OpenStack, Sandbox, Turn, locked, needs, root, target_directory, tool};

/// Time limit of the guest, in seconds; without acceleration it needs 50.
const PATIENCE: &str = "600";

/// What is needed to create the disk and to boot it.
pub(crate) const TOOLS: [&str; 7] =
    ["qemu-system-x86_64", "qemu-img", "mmdebstrap", "syslinux", "mcopy", "mkfs.vfat", "sfdisk"];

/// The disk; created once per target directory, in about a minute.
pub(crate) fn debian() -> PathBuf {
    let directory = target_directory().join("debian-disk");
    fs::create_dir_all(&directory).unwrap();
    let _one = locked("debian-disk");
    let disk = directory.join("disk.raw");
    let script = root().join("tests/fixtures/debian-disk/build");
    let output = Command::new(script).arg(&disk).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    disk
}

/// Boots a raw disk without changing it until the login prompt appears; returns the console output.
pub(crate) fn boots_to_login(disk: &Path) -> (bool, String) {
    let drive = format!("file={},format=raw,if=virtio,snapshot=on", disk.display());
    let mut guest = Command::new("timeout")
        .args([PATIENCE, "qemu-system-x86_64", "-accel", "tcg", "-m", "1024", "-nographic"])
        .args(["-no-reboot", "-nic", "none", "-drive", &drive])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut printed = String::new();
    let mut serial = BufReader::new(guest.stdout.take().unwrap());
    let mut piece = Vec::new();
    // The prompt is followed by a colon, not by a line feed.
    while serial.read_until(b':', &mut piece).unwrap() > 0 {
        printed.push_str(&String::from_utf8_lossy(&piece));
        piece.clear();
        if printed.ends_with("login:") {
            break;
        }
    }
    // It passes the signal on to the guest.
    let _ = Command::new("kill").arg(guest.id().to_string()).status();
    let _ = guest.wait();
    (printed.ends_with("login:"), printed)
}

#[test]
fn a_debian_disk_boots_again_from_the_imported_object() {
    if !needs(&TOOLS) {
        return;
    }
    let _turn = Turn::take();
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_cloud_of(Config {
        state: StateDir::Kept(state.path().to_owned()),
        ..Config::default()
    });
    let disk = debian();
    let run = sandbox.run(&["--disk", disk.to_str().unwrap(), "-c", "config.yml", "-p", "alibaba"]);
    run.succeeded();
    sandbox.cloud_has_only(1);
    let image = run.member("image_id").as_str().unwrap();
    let exported = state.path().join("exported.raw");
    Stored::open(state.path()).unwrap().export(image, &exported).unwrap();
    is_bootable(&exported);
}

#[track_caller]
fn is_bootable(disk: &Path) {
    let (reached, printed) = boots_to_login(disk);
    let tail: Vec<&str> = printed.lines().rev().take(30).collect();
    assert!(reached, "no login prompt; last lines, newest first: {tail:#?}");
}

#[test]
fn a_debian_disk_boots_again_from_an_image_that_glance_stores() {
    if !needs(&TOOLS) {
        return;
    }
    let Some(cloud) = OpenStack::shared() else { return };
    let _turn = Turn::take();
    let sandbox = Sandbox::new();
    sandbox.write("config.yml", &cloud.config("builder", "builders", &[]));
    let disk = debian();
    let args = ["--disk", disk.to_str().unwrap(), "-c", "config.yml", "-p", "openstack"];
    let run = sandbox.run(
        &[&args[..], &["--openstack-disk-compression", "zlib", "--cloud-image-name", "debian"]]
            .concat(),
    );
    run.succeeded();
    let saved = sandbox.path().join("saved");
    let format = cloud.save(run.member("image_id").as_str().unwrap(), &saved);
    tool(
        sandbox.path(),
        &["qemu-img", "convert", "-f", &format, "-O", "raw", "saved", "saved.raw"],
    );
    is_bootable(&sandbox.path().join("saved.raw"));
}
