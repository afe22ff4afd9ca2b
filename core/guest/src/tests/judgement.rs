//! Severities, evidence, and what is not guessed.

use super::disk::{Holds, Node, Partition, ROOT_UUID};
use super::faults::{config, fstab};
use super::parts;
use super::systems::{bios_grub, lvm, needs, systemd_boot};
use crate::model::Firmware::{Bios, Uefi};
use crate::{Requirements, Severity};

#[test]
fn the_evidence_of_a_finding_is_a_line_of_a_file() {
    let mut disk = bios_grub();
    fstab(&mut disk, "/dev/sdb1 /data ext4 defaults 0 2");
    let Some(disk) = disk.write() else { return };
    let findings = disk.check(&needs(Bios));
    let [finding] = &findings[..] else { panic!("{findings:#?}") };
    let evidence = &finding.evidence[0];
    assert_eq!((evidence.volume.as_str(), evidence.file.as_str()), ("partition 1", "/etc/fstab"));
    assert_eq!(evidence.line, Some(3));
    assert_eq!(evidence.text, "/dev/sdb1 /data ext4 defaults 0 2");
    assert_eq!(finding.severity, Severity::Error);
}

#[test]
fn the_severity_depends_on_what_the_system_waits_for() {
    let line = |options: &str, point: &str| format!("/dev/sdb1 {point} ext4 {options} 0 0");
    for (line, want) in [
        (line("defaults", "/data"), Some(Severity::Error)),
        (line("defaults,nofail", "/data"), Some(Severity::Note)),
        (line("noauto", "/data"), Some(Severity::Note)),
        ("/dev/sdb2 none swap sw 0 0".to_owned(), Some(Severity::Warning)),
        ("/dev/sdb2 /mnt none bind 0 0".to_owned(), None),
        ("server:/export /mnt nfs defaults 0 0".to_owned(), None),
        ("LABEL=data /data ext4 x-systemd.automount,nofail 0 0".to_owned(), Some(Severity::Note)),
    ] {
        let mut disk = bios_grub();
        fstab(&mut disk, &line);
        let Some(disk) = disk.write() else { return };
        let findings = disk.check(&needs(Bios));
        assert_eq!(findings.first().map(|finding| finding.severity), want, "{line}: {findings:#?}");
    }
    // A name of virtio disks is right on machines that have nothing else.
    for (device, want) in [("/dev/vda1", Severity::Warning), ("/dev/sda1", Severity::Error)] {
        let mut disk = bios_grub();
        config(&mut disk, &format!("root=UUID={ROOT_UUID}"), &format!("root={device}"));
        let Some(disk) = disk.write() else { return };
        let findings = disk.check(&needs(Bios));
        assert_eq!(findings[0].severity, want, "{device}");
    }
}

#[test]
fn other_partition_tables_and_missing_signatures_are_reported_on_request() {
    let Some(disk) = systemd_boot().write() else { return };
    let wanted = Requirements {
        schemes: vec!["MBR".to_owned()],
        secure_boot: true,
        ..Requirements::default()
    };
    let ids = |wanted: &Requirements| {
        disk.check(wanted).into_iter().map(|finding| finding.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&wanted), ["partition-table", "not-signed"]);
    // Either firmware is enough, unless both are needed.
    let both = Requirements { firmware: vec![Bios, Uefi], ..Requirements::default() };
    assert!(ids(&both).is_empty());
    assert_eq!(ids(&Requirements { every_firmware: true, ..both }), ["no-bios-loader"]);
}

#[test]
fn file_systems_without_a_reader_are_named_and_nothing_is_guessed() {
    let signed = |at: usize, magic: &[u8]| {
        let mut bytes = vec![0; 0x1_1000];
        bytes[at..at + magic.len()].copy_from_slice(magic);
        bytes
    };
    for (at, magic, want) in [
        (0, &b"XFSB"[..], "XFS"),
        (0x1_0040, b"_BHRfS_M", "btrfs"),
        (0, b"LUKS\xba\xbe", "LUKS"),
        (4096, &[0xfc, 0x4e, 0x2b, 0xa9], "RAID"),
        (3, b"NTFS    ", "NTFS"),
        (1024, &[0x10, 0x20, 0xf5, 0xf2], "F2FS"),
    ] {
        let mut disk = lvm();
        disk.partitions[1] =
            Partition { line: "type=83", mib: 8, holds: Holds::Bytes(signed(at, magic)) };
        let Some(disk) = disk.write() else { return };
        let findings = disk.check(&needs(Bios));
        let hidden = ["LUKS", "RAID"].contains(&want);
        let ids: Vec<&str> = findings.iter().map(|finding| finding.id.as_str()).collect();
        // `/dev/mapper/…` may be anything that the machine sets up.
        assert_eq!(ids, ["not-inspected"], "{want} {hidden}: {findings:#?}");
        assert!(findings[0].message.contains(want), "{findings:#?}");
    }
}

#[test]
fn kinds_of_logical_volumes_without_a_reader_are_named() {
    let segment = |kind: &str, stripes: u32| {
        parts::LINEAR
            .replace("\"striped\"", &format!("\"{kind}\""))
            .replace("stripe_count = 1", &format!("stripe_count = {stripes}"))
    };
    for (segments, want) in [
        (segment("striped", 2), "2 stripes"),
        (segment("raid1", 1), "raid1"),
        (segment("thin", 1), "thin"),
        (parts::LINEAR.replace("pv0", "pv1"), "malformed"),
        (parts::LINEAR.replace("EXTENTS", "99999"), "malformed"),
        (
            parts::LINEAR.replace("segment_count = 1", "segment_count = 99999999"),
            "99999999 segments",
        ),
    ] {
        let mut disk = lvm();
        if let Holds::Lvm { segments: old, .. } = &mut disk.partitions[1].holds {
            *old = segments;
        }
        let Some(disk) = disk.write() else { return };
        let findings = disk.check(&needs(Bios));
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert_eq!(findings[0].id, "not-inspected");
        assert!(findings[0].message.contains(want), "{findings:#?}");
    }
    let mut disk = lvm();
    disk.tree(1).insert("/x".to_owned(), Node::Directory);
    assert!(disk.write().is_none_or(|disk| disk.check(&needs(Bios)).is_empty()));
}
