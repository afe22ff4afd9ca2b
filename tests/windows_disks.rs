//! Registers disks with Windows: the operating system that the cloud records follows from the disk, or from the settings.

use std::{fs::File, os::unix::fs::FileExt as _};

use build_image_emulator_alibaba::{Config, StateDir, Stored};

use crate::harness::Sandbox;

/// Writes a disk whose active partition has NTFS with the boot record of Windows.
fn windows(sandbox: &Sandbox) {
    let file = File::create(sandbox.path().join("windows.raw")).unwrap();
    file.set_len(64 << 20).unwrap();
    let mut record = vec![0x33; 440];
    record[300..323].copy_from_slice(b"Invalid partition table");
    file.write_all_at(&record, 0).unwrap();
    // Active, NTFS, from sector 2048 to the end.
    let mut entry = [0; 16];
    (entry[0], entry[4]) = (0x80, 7);
    entry[8..12].copy_from_slice(&2048_u32.to_le_bytes());
    entry[12..16].copy_from_slice(&(131_072_u32 - 2048).to_le_bytes());
    file.write_all_at(&entry, 446).unwrap();
    file.write_all_at(&[0x55, 0xaa], 510).unwrap();
    let mut boot = vec![0; 512];
    boot[3..11].copy_from_slice(b"NTFS    ");
    boot[11..13].copy_from_slice(&512_u16.to_le_bytes());
    boot[13] = 8;
    boot[0x28..0x30].copy_from_slice(&(131_072_u64 - 2049).to_le_bytes());
    boot[0x180..0x192].copy_from_slice(b"BOOTMGR is missing");
    boot[510..512].copy_from_slice(&[0x55, 0xaa]);
    file.write_all_at(&boot, 1 << 20).unwrap();
}

#[test]
fn windows_is_registered_as_windows() {
    let kept = tempfile::tempdir().unwrap();
    let cloud = kept.path().join("cloud");
    let state = StateDir::Kept(cloud.clone());
    let sandbox = Sandbox::with_cloud_of(Config { state, ..Config::default() });
    windows(&sandbox);
    sandbox.disk("data.raw", 4, 1);
    let server = ["--alibaba-platform", "Windows Server 2022"];
    for (disk, more, os_type, platform) in [
        ("windows.raw", &[][..], "windows", "Other Windows"),
        ("windows.raw", &server[..], "windows", "Windows Server 2022"),
        ("windows.raw", &["--alibaba-os-type", "linux"], "linux", "Others Linux"),
        ("data.raw", &["--alibaba-os-type", "windows"], "windows", "Other Windows"),
        ("data.raw", &[], "linux", "Others Linux"),
    ] {
        let args = ["--disk", disk, "-p", "alibaba", "-c", "config.yml"];
        let run = sandbox.run(&[&args, more].concat());
        let id = run.succeeded().member("image_id").as_str().unwrap();
        let images = Stored::open(&cloud).unwrap().images();
        let image = images.iter().find(|image| image.id == id).unwrap();
        assert_eq!((&*image.os_type, &*image.platform), (os_type, platform), "{disk} {more:?}");
    }
    let standard = ["--alibaba-detection-strategy", "Standard"];
    let args = ["--disk", "windows.raw", "-p", "alibaba", "-c", "config.yml"];
    sandbox.run(&[&args[..], &standard].concat()).failed(
        2,
        &["ECS does not check images of Windows", "hint: leave ALIBABA_DETECTION_STRATEGY out"],
    );
}
