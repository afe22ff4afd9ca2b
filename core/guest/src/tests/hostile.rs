//! Hostile disks: the inspection ends, without a panic.

use std::fs;
use std::os::unix::fs::FileExt;

use super::disk::{Disk, Holds, MIB, Node, Partition, ROOT_UUID, Tree, Written, ext};
use super::parts::{self, VERSION};
use super::systems::{ALL, bios_grub, lvm, needs, uefi_grub};
use super::tools::{program, run};
use crate::model::Firmware;
use crate::{Attributes, check};

/// Inspects and checks a disk; the results do not matter.
fn survive(disk: &Written) {
    let found = disk.inspect();
    let _ = check(&found, &needs(Firmware::Uefi));
    let _ = Attributes::of(&found);
}

#[test]
fn flipped_bytes_of_every_structure_never_panic() {
    for (_, system) in ALL {
        let Some(disk) = system().write() else { return };
        let whole = fs::read(&disk.path).unwrap();
        let file = fs::File::options().write(true).open(&disk.path).unwrap();
        let mut state = 7_u64;
        let used: Vec<usize> = (0..whole.len() / 512)
            .filter(|sector| whole[sector * 512..][..512].iter().any(|byte| *byte != 0))
            .collect();
        for _ in 0..120 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pick = usize::try_from(state >> 33).unwrap();
            // Half of the changes hit the first sectors, where tables and superblocks are.
            let sector = if pick.is_multiple_of(2) {
                used[pick / 2 % used.len().min(40)]
            } else {
                used[pick / 2 % used.len()]
            };
            let at = sector * 512 + (pick >> 9) % 509;
            let value = [0xff, 0x00, 0x80, 0x01][pick % 4];
            file.write_all_at(&[value; 3], at as u64).unwrap();
            survive(&disk);
            file.write_all_at(&whole[at..at + 3], at as u64).unwrap();
        }
    }
}

#[test]
fn links_that_refer_to_themselves_end() {
    let mut disk = bios_grub();
    let tree = disk.tree(0);
    for (path, target) in [
        ("/etc/fstab", "fstab"),
        ("/etc/machine-id", "/etc/a/../a/machine-id"),
        ("/etc/a", "/etc/b"),
        ("/etc/b", "/etc/a"),
        ("/boot/grub/grub.cfg", "../grub/grub.cfg"),
        ("/usr/lib/os-release", "../../etc/os-release"),
        ("/home/loop", "/home"),
    ] {
        tree.insert(path.to_owned(), Node::Link(target.to_owned()));
    }
    let Some(disk) = disk.write() else { return };
    survive(&disk);
}

#[test]
fn a_link_that_declares_a_large_target_is_not_read() {
    let mut disk = bios_grub();
    // A long target is not stored in the inode.
    let target = format!("/{}", "x".repeat(200));
    disk.tree(0).insert("/etc/fstab".to_owned(), Node::Link(target));
    let Some(disk) = disk.write() else { return };
    let Some(debugfs) = program("debugfs") else { return };
    for size in ["4097", "70000000000", "0x7fffffffffffffff"] {
        let place = format!("{}?offset={MIB}", disk.path.display());
        let request = format!("set_inode_field /etc/fstab size {size}");
        run(&debugfs, &[&"-w", &"-R", &request, &place]);
        let found = disk.inspect();
        let is_named = found.remarks.iter().any(|remark| remark.contains("`/etc/fstab`"));
        assert!(is_named && found.system.is_some(), "{size}: {:?}", found.remarks);
    }
}

#[test]
fn large_directories_and_files_end() {
    let mut disk = bios_grub();
    for number in 0..1500 {
        disk.put(0, &format!("/etc/netplan/{number}.yaml"), "x");
        disk.put(0, &format!("/usr/lib/modules/{number}/modules.dep"), "");
    }
    let config =
        "submenu x {\n".repeat(5000) + &"menuentry y { linux /x }\n".repeat(5000) + "}}}}\n";
    disk.put(0, "/boot/grub/grub.cfg", config);
    disk.put(0, "/etc/fstab", "UUID=x / ext4 defaults 0 0\n".repeat(20_000));
    let variables: String = (0..40).map(|n| format!("set v{}=$v{n}$v{n}\n", n + 1)).collect();
    disk.put(0, "/grub/grub.cfg", format!("set v0=xxxxxxxx\n{variables}"));
    disk.partitions[0].mib = 100;
    let Some(disk) = disk.write() else { return };
    survive(&disk);
}

#[test]
fn a_hole_without_an_end_is_not_read_to_its_end() {
    let (Some(disk), Some(debugfs)) = (bios_grub().write(), program("debugfs")) else { return };
    let size = format!("sif /boot/initrd.img-{VERSION} size {}", 3_u64 << 40);
    run(&debugfs, &[&"-w", &"-R", &size, &format!("{}?offset=1048576", disk.path.display())]);
    let found = disk.inspect();
    assert!(!found.complete, "{found:#?}");
}

#[test]
fn texts_that_grow_when_they_are_read_end() {
    let mut disk = uefi_grub();
    disk.partitions[1].mib = 80;
    let large = "x".repeat(1 << 20);
    disk.put(1, "/boot/grub/grubenv", format!("# GRUB Environment Block\nv={large}\n"));
    let line = "menuentry x {\nlinux /x $v $v $v\ninitrd $v $v\n}\n";
    disk.put(1, "/boot/grub/grub.cfg", format!("blscfg\n{}", line.repeat(30_000)));
    for number in 0..20 {
        let path = format!("/boot/loader/entries/{number}.conf");
        disk.put(1, &path, format!("linux /x\n{}", "options $v $v\n".repeat(60_000)));
    }
    disk.put(1, "/etc/netplan/x.yaml", "52:54:00:12:34:56 ".repeat(50_000));
    disk.put(1, "/etc/fstab", format!("UUID=x / ext4 {} 0 0\n", ",".repeat(1 << 20)));
    let Some(disk) = disk.write() else { return };
    let found = disk.inspect();
    assert!(found.complete && found.entries.len() <= 100);
    assert!(found.entries.iter().all(|entry| entry.arguments.len() <= 4 << 10));
    let text = serde_json::to_string(&found).unwrap();
    assert!(text.len() < 4 << 20, "{}", text.len());
}

#[test]
fn a_physical_volume_inside_of_a_logical_volume_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let Some(inner) = ext(ROOT_UUID, &Tree::new(), 8 * MIB, directory.path()) else { return };
    let inner = parts::physical_volume(&inner, parts::LINEAR);
    let outer = parts::physical_volume(&inner, parts::LINEAR);
    let mut disk = lvm();
    disk.partitions[1] = Partition { line: "type=8e", mib: 30, holds: Holds::Bytes(outer) };
    let Some(disk) = disk.write() else { return };
    let found = disk.inspect();
    let logical = &found.volumes[2];
    assert_eq!(
        logical.not_inspected.as_deref(),
        Some("LVM inside of a logical volume"),
        "{found:#?}"
    );
    assert_eq!(found.volumes.len(), 3);
}

#[test]
fn a_cluster_chain_that_refers_to_itself_ends() {
    let Some(disk) = uefi_grub().write() else { return };
    let whole = fs::read(&disk.path).unwrap();
    let fat = usize::try_from(MIB).unwrap();
    let reserved = u64::from(u16::from_le_bytes([whole[fat + 14], whole[fat + 15]]));
    let file = fs::File::options().write(true).open(&disk.path).unwrap();
    for entry in 2..3000_u64 {
        let own = u16::try_from(entry).unwrap().to_le_bytes();
        file.write_all_at(&own, MIB + reserved * 512 + entry * 2).unwrap();
    }
    survive(&disk);
}

#[test]
fn superblocks_that_declare_too_much_are_refused() {
    // Number of blocks, blocks per group, size of a block, inodes per group, size of an inode.
    for (offset, value) in
        [(4, u32::MAX), (32, 8), (24, 40), (40, 0), (40, u32::MAX), (88, 0), (0x150, 77)]
    {
        let disk = Disk {
            patches: vec![(MIB + 1024 + offset, value.to_le_bytes().to_vec())],
            ..bios_grub()
        };
        let Some(disk) = disk.write() else { return };
        survive(&disk);
    }
}

#[test]
fn garbage_and_empty_disks_have_no_system() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let mut state = 1_u64;
    let noise: Vec<u8> = (0..1 << 20)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()[6]
        })
        .collect();
    for bytes in [Vec::new(), vec![0; 512], vec![0; 1 << 20], vec![0xff; 70_000], noise] {
        fs::write(&path, bytes).unwrap();
        let reader = build_image_disk::GuestReader::open_raw(&path).unwrap();
        let found = crate::inspect(&reader, crate::Limits::default()).unwrap();
        assert!(found.system.is_none() && found.loaders.is_empty());
        let findings = check(&found, &needs(Firmware::Bios));
        let ids: Vec<&str> = findings.iter().map(|finding| finding.id.as_str()).collect();
        assert_eq!(ids, ["no-bios-loader", "no-system"]);
    }
}
