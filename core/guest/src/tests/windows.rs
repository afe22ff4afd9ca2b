//! Disks with Windows, as far as they are outside of NTFS, and disks that only look like it.

use super::disk::{Disk, Holds, Node, Partition, Tree};
use super::parts;
use super::systems::bios_grub;
use crate::{Attributes, Requirements, Severity, check};

const MANAGER: &str = "/EFI/Microsoft/Boot/bootmgfw.efi";

/// The start of an NTFS file system whose boot record contains a text.
fn ntfs(text: &str) -> Holds {
    let mut bytes = vec![0; 4096];
    bytes[3..11].copy_from_slice(b"NTFS    ");
    bytes[11..13].copy_from_slice(&512_u16.to_le_bytes());
    bytes[0x28..0x30].copy_from_slice(&1000_u64.to_le_bytes());
    bytes[0x18c..0x18c + text.len()].copy_from_slice(text.as_bytes());
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    Holds::Bytes(bytes)
}

/// A disk for UEFI whose EFI system partition has these files.
fn uefi(files: &[(&str, Vec<u8>)], system: Holds) -> Disk {
    let tree: Tree =
        files.iter().map(|(path, bytes)| ((*path).to_owned(), Node::File(bytes.clone()))).collect();
    let part = |line, mib, holds| Partition { line, mib, holds };
    Disk {
        label: "gpt",
        partitions: vec![
            part("type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B", 34, Holds::Fat { tree }),
            part("type=E3C9E316-0B5C-4DB8-817D-F92DF00215AE", 1, Holds::Nothing),
            part("type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", 4, system),
        ],
        patches: Vec::new(),
    }
}

/// A disk for BIOS with one partition.
fn bios(line: &'static str, system: Holds) -> Disk {
    let mut record = vec![0x33; 440];
    record[300..323].copy_from_slice(b"Invalid partition table");
    Disk {
        label: "dos",
        partitions: vec![Partition { line, mib: 4, holds: system }],
        patches: vec![(0, record)],
    }
}

#[test]
fn windows_is_recognised_by_its_boot_loader_beside_ntfs() {
    let program = || parts::efi("boot manager", true);
    let both = [(MANAGER, program()), ("/EFI/Boot/bootx64.efi", program())];
    let lower = [("/efi/microsoft/boot/BOOTMGFW.EFI", program())];
    let text = [(MANAGER, b"text".to_vec())];
    let manager = "BOOTMGR is missing";
    let (esp, record) = (Some("partition 1"), Some("partition 1"));
    for (name, disk, expected) in [
        ("UEFI", uefi(&both, ntfs(manager)), esp),
        ("other case", uefi(&lower, ntfs("")), esp),
        ("not a program", uefi(&text, ntfs(manager)), None),
        ("no system", uefi(&both, Holds::Nothing), None),
        ("no boot manager", uefi(&[("/EFI/Boot/bootx64.efi", program())], ntfs(manager)), None),
        ("BIOS", bios("type=7, bootable", ntfs(manager)), record),
        ("old", bios("type=7, bootable", ntfs("NTLDR is missing")), record),
        ("data disk", bios("type=7", ntfs(manager)), None),
        ("mkntfs", bios("type=7, bootable", ntfs("This is not a bootable disk.")), None),
        ("not NTFS", bios("type=7, bootable", Holds::Bytes(b"BOOTMGR".to_vec())), None),
    ] {
        let Some(written) = disk.write() else { return };
        let found = written.inspect();
        let windows = found.windows.as_ref().map(|evidence| evidence.volume.as_str());
        assert_eq!(windows, expected, "{name}: {found:#?}");
        let attributes = Attributes::of(&found);
        assert_eq!(attributes.os.as_deref(), expected.map(|_| "windows"), "{name}");
        if name == "UEFI" {
            assert_eq!(attributes.architecture.as_deref(), Some("x86_64"));
            let severe: Vec<_> = check(&found, &Requirements::default())
                .into_iter()
                .filter(|finding| finding.severity != Severity::Note)
                .collect();
            assert!(severe.is_empty(), "{severe:#?}");
        }
    }
}

#[test]
fn the_system_whose_files_are_read_is_the_one_that_is_reported() {
    let mut disk = bios_grub();
    disk.partitions.push(Partition { line: "type=7", mib: 4, holds: ntfs("BOOTMGR is missing") });
    let Some(written) = disk.write() else { return };
    assert_eq!(Attributes::of(&written.inspect()).os.as_deref(), Some("debian"));
}
