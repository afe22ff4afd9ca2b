//! Builds that end as an image in the emulator.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, process::Command};

use build_image_emulator_alibaba::{Config, StateDir, Stored};

use crate::harness::{Iso, Sandbox, needs_qemu, sandbox_walk};

/// Compares two raw disks with qemu's own tool.
#[track_caller]
fn equal(one: &Path, other: &Path) {
    let output = Command::new("qemu-img")
        .args(["compare", "-f", "raw", "-F", "raw"])
        .args([one, other])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn an_installer_iso_becomes_a_registered_image_with_the_old_command_line() {
    if !needs_qemu() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_cloud_of(Config {
        state: StateDir::Kept(state.path().to_owned()),
        ..Config::default()
    });
    let iso = Iso::of("ok");
    let words =
        ["-i", iso.word(), "-c", "config.yml", "-p", "alibaba", "-m", "ltm", "-b", "1", "--reuse"];
    let run = sandbox.run(&words);
    run.succeeded();
    let image = run.member("image_id").as_str().unwrap().to_owned();
    assert_eq!(run.member("alibaba_image_id"), image.as_str());
    assert_eq!(run.member("alibaba_region"), "cn-hangzhou");
    assert_eq!(run.member("virtual_size"), 20_u64 << 30);
    assert!(
        run.stdout.starts_with(&format!("image {image} (F5-BIGIP-15-0-0-0-0-39-BYOL-ltm-1slot-"))
    );
    sandbox.cloud_has_only(1);
    sandbox.keeps_the_secret(&run);

    let exported = state.path().join("exported.raw");
    Stored::open(state.path()).unwrap().export(&image, &exported).unwrap();
    let folder = sandbox.path().join("artifacts/ok/alibaba/ltm_1slot");
    equal(&folder.join("BIGIP-15.0.0-0.0.39.LTM_1SLOT.alibaba.raw"), &exported);
    for log in ["qemu.iso.log", "qemu.selinux_relabeling.log"] {
        assert!(folder.join(log).is_file(), "{log} is kept with --reuse");
    }
}

/// Bytes that files below a folder take on disk.
fn allocated(folder: &Path) -> u64 {
    let mut sum = 0;
    sandbox_walk(folder, &mut |path| {
        sum += path.symlink_metadata().map_or(0, |metadata| metadata.blocks() * 512);
    });
    sum
}

#[test]
fn an_upload_needs_no_second_copy_of_the_disk() {
    let sandbox = Sandbox::with_cloud();
    let disk = sandbox.disk("disk.raw", 200, 100);
    let before = allocated(sandbox.path());
    let emulator = sandbox.emulator.as_ref().unwrap();
    // All parts are there, the build waits for the answer that makes one object of them.
    emulator
        .set_faults(
            r#"[{"operation":"CompleteMultipartUpload","count":1,"action":{"stall_ms":3000}}]"#,
        )
        .unwrap();
    let words = ["--disk", disk.to_str().unwrap(), "-c", "config.yml", "-p", "alibaba"];
    let temporary = tempfile::tempdir().unwrap();
    let mut child = sandbox
        .command(&words)
        .env("TMPDIR", temporary.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let parts = 101_u64.div_ceil(16);
    while emulator.status()["parts"].as_u64() < Some(parts) {
        assert!(child.try_wait().unwrap().is_none(), "the build ended before all parts were sent");
        std::thread::yield_now();
    }
    let now = allocated(sandbox.path()) + allocated(temporary.path());
    assert!(child.wait().unwrap().success());
    let more = now.saturating_sub(before);
    assert!(more < 1 << 20, "{more} bytes were written beside the disk, only log and journal may");
    sandbox.cloud_has_only(1);
}

#[test]
fn a_build_that_is_interrupted_leaves_nothing_behind() {
    let sandbox = Sandbox::with_cloud();
    let disk = sandbox.disk("disk.raw", 200, 100);
    let emulator = sandbox.emulator.as_ref().unwrap();
    emulator
        .set_faults(r#"[{"operation":"UploadPart","part_number":5,"action":{"stall_ms":60000}}]"#)
        .unwrap();
    let words = ["--disk", disk.to_str().unwrap(), "-c", "config.yml", "-p", "alibaba"];
    let child = sandbox
        .command(&words)
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while emulator.status()["parts"].as_u64() < Some(2) {
        std::thread::yield_now();
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("error: interrupted"), "{text}");
    sandbox.cloud_has_only(0);
    assert!(!sandbox.path().join("artifacts").exists(), "{:?}", sandbox.files());
}

#[test]
fn a_cloud_image_without_upload_is_published_and_needs_no_credentials() {
    let sandbox = Sandbox::new();
    let disk = sandbox.disk("disk.raw", 8, 1);
    let run = sandbox.run(&["--disk", disk.to_str().unwrap(), "-p", "alibaba", "--no-upload"]);
    run.succeeded();
    assert!(
        fs::metadata(sandbox.path().join("images/disk.alibaba.qcow2")).unwrap().len() > 1 << 20
    );
    assert_eq!(run.member("location"), sandbox.path().join("images").to_str().unwrap());
}
