//! Tests the facts of disks that sfdisk partitions and mtools fills, and of tables that are corrupted on
//! purpose.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Architecture, Facts, Role, Scheme};
use crate::field::{index, le64};
use crate::format::GuestReader;
use crate::testing::{program, run};

const MIB: u64 = 1 << 20;
const ESP: &str = "type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
const BIOS: &str = "type=21686148-6449-6E6F-744E-656564454649";
const LINUX: &str = "type=0FC63DAF-8483-4772-8E79-3D69D8477DE4";
const ROOT_ARM: &str = "type=B921B045-1DF0-41C3-AF44-4C6F280D3FAE";
const ROOT_X86: &str = "type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";

/// Creates a disk of 80 MiB with these partitions; `label` is the name that sfdisk uses for the scheme.
fn disk(directory: &Path, label: &str, partitions: &[&str]) -> Option<PathBuf> {
    let (sfdisk, shell) = (program("sfdisk")?, program("sh")?);
    let (path, script) = (directory.join("disk"), directory.join("script"));
    File::create(&path).unwrap().set_len(80 * MIB).unwrap();
    fs::write(&script, format!("label: {label}\n{}\n", partitions.join("\n"))).unwrap();
    let line = "\"$0\" -q --no-reread --no-tell-kernel \"$1\" < \"$2\"";
    run(&shell, &[&"-c", &line, &sfdisk, &path, &script]);
    Some(path)
}

fn facts(path: &Path) -> Facts {
    Facts::read(&GuestReader::open(path).unwrap()).unwrap()
}

/// Creates a FAT file system with these files in a partition.
fn fill(path: &Path, start: u64, options: &[&str], files: &[&str]) -> Option<()> {
    let (mkfs, mmd, mcopy) = (program("mkfs.vfat")?, program("mmd")?, program("mcopy")?);
    let directory = tempfile::tempdir().unwrap();
    let (image, content) = (directory.path().join("fat"), directory.path().join("content"));
    File::create(&image).unwrap().set_len(40 * MIB).unwrap();
    let mut args: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&image];
    args.extend(options.iter().map(|option| option as &dyn AsRef<std::ffi::OsStr>));
    run(&mkfs, &args);
    fs::write(&content, [0x4d; 70_000]).unwrap();
    for made in ["::/filler", "::/EFI", "::/EFI/debian", "::/EFI/BOOT"] {
        run(&mmd, &[&"-i", &image, &made]);
    }
    for file in files {
        run(&mcopy, &[&"-i", &image, &content, file]);
    }
    let disk = File::options().write(true).open(path).unwrap();
    disk.write_all_at(&fs::read(&image).unwrap(), start).unwrap();
    Some(())
}

/// Name, label, partitions, boot code, and: scheme, BIOS, UEFI, architecture.
type Case = (
    &'static str,
    &'static str,
    &'static [&'static str],
    bool,
    (Scheme, bool, bool, Option<Architecture>),
);

#[test]
fn firmware_and_processor_follow_from_the_partitions() {
    let cases: [Case; 8] = [
        ("cloud image", "gpt", &[BIOS, ESP, LINUX], true, (Scheme::Gpt, true, true, None)),
        (
            "no code, but a BIOS partition",
            "gpt",
            &[BIOS, LINUX],
            false,
            (Scheme::Gpt, true, false, None),
        ),
        (
            "UEFI only",
            "gpt",
            &[ESP, ROOT_X86],
            false,
            (Scheme::Gpt, false, true, Some(Architecture::X86_64)),
        ),
        (
            "Arm",
            "gpt",
            &[ESP, ROOT_ARM],
            true,
            (Scheme::Gpt, false, true, Some(Architecture::Aarch64)),
        ),
        ("contradiction", "gpt", &[ROOT_X86, ROOT_ARM], false, (Scheme::Gpt, false, false, None)),
        ("old style", "dos", &["type=83, bootable"], true, (Scheme::Mbr, true, false, None)),
        ("MBR with ESP", "dos", &["type=ef"], false, (Scheme::Mbr, false, true, None)),
        ("empty table", "dos", &[""], false, (Scheme::Mbr, false, false, None)),
    ];
    for (name, label, partitions, code, want) in cases {
        let directory = tempfile::tempdir().unwrap();
        let partitions: Vec<String> =
            partitions.iter().map(|partition| format!("size=8MiB, {partition}")).collect();
        let partitions: Vec<&str> = partitions.iter().map(String::as_str).collect();
        let Some(path) = disk(directory.path(), label, &partitions) else { return };
        if code {
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[0xeb, 0x63, 0x90], 0).unwrap();
        }
        let found = facts(&path);
        let got = (found.scheme, found.bios, found.uefi, found.architecture);
        assert_eq!(got, want, "{name}");
        assert_eq!(found.is_uefi_only(), want.2 && !want.1, "{name}");
        assert_eq!(found.partitions.len(), partitions.len(), "{name}");
    }
}

#[test]
fn boot_loaders_identify_the_architecture() {
    for (options, files, want) in [
        (
            &["-F", "12", "-s", "128"][..],
            &["::/EFI/BOOT/BOOTX64.EFI"][..],
            Some(Architecture::X86_64),
        ),
        (&["-F", "16"], &["::/EFI/BOOT/bootaa64.efi"], Some(Architecture::Aarch64)),
        (&["-F", "32", "-s", "1"], &["::/EFI/BOOT/BOOTX64.EFI"], Some(Architecture::X86_64)),
        (&["-F", "32"], &["::/EFI/BOOT/BOOTRISCV64.EFI"], Some(Architecture::Riscv64)),
        (&["-F", "16"], &["::/EFI/BOOT/BOOTX64.EFI", "::/EFI/BOOT/BOOTAA64.EFI"], None),
        (&["-F", "16"], &["::/EFI/debian/BOOTX64.EFI"], None),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let esp = format!("start=1MiB, size=40MiB, {ESP}");
        let Some(path) = disk(directory.path(), "gpt", &[&esp, LINUX]) else { return };
        let Some(()) = fill(&path, MIB, options, files) else { return };
        let found = facts(&path);
        assert_eq!(found.architecture, want, "{options:?} {files:?}");
        assert!(found.remarks.is_empty(), "{:?}", found.remarks);
    }
}

#[test]
fn partitions_have_the_identity_that_linux_prints() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let guid = "0a1b2c3d-4e5f-4061-8273-8495a6b7c8d9";
    let first = format!("size=8MiB, uuid={guid}");
    let Some(path) = disk(path, "gpt", &[&first]) else { return };
    assert_eq!(facts(&path).partitions[0].partuuid(), guid);
    let lines = ["size=8MiB, type=83, bootable", "type=5", "size=4MiB, type=83", "size=5MiB"];
    let path = disk(directory.path(), "dos\nlabel-id: 0x12ab34cd", &lines).unwrap();
    let found = facts(&path).partitions;
    let all: Vec<_> = found.iter().map(|found| (found.number, found.partuuid())).collect();
    let want = [1, 2, 5, 6].map(|number| (number, format!("12ab34cd-{number:02x}")));
    assert_eq!(all, want);
    assert_eq!(
        found.iter().map(|found| found.active).collect::<Vec<_>>(),
        [true, false, false, false]
    );
    assert_eq!(found[2].len, 4 * MIB);
    assert!(found[3].start > found[2].start + found[2].len, "{found:?}");
    // A chain of records that refers to itself ends.
    let own = u32::try_from((found[3].start - found[1].start) / 512).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    for record in [found[2].start - MIB, found[3].start - MIB] {
        file.write_all_at(&[0, 0, 0, 0, 5, 0, 0, 0], record + 462).unwrap();
        file.write_all_at(&(own - 2048).to_le_bytes(), record + 470).unwrap();
        file.write_all_at(&[1], record + 474).unwrap();
    }
    assert!(facts(&path).partitions.len() <= 62);
}

#[test]
fn a_damaged_table_is_read_from_its_backup_also_on_a_grown_disk() {
    let directory = tempfile::tempdir().unwrap();
    let first = format!("size=8MiB, {LINUX}");
    let Some(path) = disk(directory.path(), "gpt", &[&first, LINUX]) else { return };
    let whole = facts(&path);
    assert!(whole.remarks.is_empty(), "{:?}", whole.remarks);
    let file = File::options().write(true).open(&path).unwrap();
    // One entry of the first table.
    file.write_all_at(&[1], 1024 + 33).unwrap();
    let found = facts(&path);
    assert_eq!(found.partitions, whole.partitions);
    assert!(found.remarks[0].contains("its backup was read"), "{:?}", found.remarks);
    let grown = GuestReader::open(&path).unwrap().grown_to(200 * MIB).unwrap();
    assert_eq!(Facts::read(&grown).unwrap(), found);
    file.write_all_at(b"x", 80 * MIB - 512).unwrap();
    let found = facts(&path);
    assert_eq!((found.scheme, found.partitions.len()), (Scheme::None, 0));
    assert!(found.remarks[0].contains("so is its backup"), "{:?}", found.remarks);
}

#[test]
fn corrupt_tables_are_remarks_and_never_errors() {
    let directory = tempfile::tempdir().unwrap();
    let esp = format!("start=1MiB, size=40MiB, {ESP}");
    let Some(path) = disk(directory.path(), "gpt", &[&esp, LINUX]) else { return };
    let Some(()) = fill(&path, MIB, &["-F", "16"], &["::/EFI/BOOT/BOOTX64.EFI"]) else { return };
    let whole = fs::read(&path).unwrap();
    let fat = index(MIB);
    let file = File::options().write(true).open(&path).unwrap();
    // Every field of the header, the first entries, the boot sector and the first table of the FAT.
    let places = (512..604).chain(1024..1088).chain(fat..fat + 64).chain(fat + 2048..fat + 2080);
    for at in places {
        for value in [0, 1, 0x7f, 0xff] {
            file.write_all_at(&[value], at as u64).unwrap();
            let found = facts(&path);
            assert!(found.partitions.len() <= 2);
        }
        file.write_all_at(&whole[at..=at], at as u64).unwrap();
    }
    assert_eq!(facts(&path).architecture, Some(Architecture::X86_64));
    // A cluster chain that refers to itself ends.
    let reserved = u64::from(crate::field::le16(&whole, fat + 14));
    for entry in 2..600_u64 {
        let own = u16::try_from(entry).unwrap().to_le_bytes();
        file.write_all_at(&own, MIB + reserved * 512 + entry * 2).unwrap();
    }
    facts(&path);
}

#[test]
fn disks_without_a_table_have_no_facts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    for len in [0, 512, 1024, 1 << 20] {
        fs::write(&path, vec![0; len]).unwrap();
        let found = facts(&path);
        assert_eq!((found.scheme, found.bios, found.uefi), (Scheme::None, false, false));
    }
    fs::write(&path, [0x55; 4096]).unwrap();
    assert_eq!(facts(&path).scheme, Scheme::None);
    let mut record = vec![0; 4096];
    record[510..512].copy_from_slice(&[0x55, 0xaa]);
    record[446] = 0x80;
    record[450] = 0x83;
    record[458..462].fill(0xff);
    fs::write(&path, &record).unwrap();
    let found = facts(&path);
    assert_eq!((found.scheme, found.partitions[0].role), (Scheme::Mbr, Role::Other));
    assert_eq!(found.missing[0].what, "partition 1");
}

#[test]
fn what_a_cut_disk_lacks_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) =
        (format!("start=1MiB, size=8MiB, {LINUX}"), format!("size=50MiB, {LINUX}"));
    for (label, partitions, length, want) in [
        ("gpt", [first.as_str(), &second], 80 * MIB, &[][..]),
        ("gpt", [&first, &second], 80 * MIB - 512, &["the backup of the partition table"]),
        ("gpt", [&first, &second], 30 * MIB, &["partition 2", "the backup of the partition table"]),
        (
            "gpt",
            [&first, &second],
            4 * MIB,
            &["partition 1", "partition 2", "the backup of the partition table"],
        ),
        ("dos", ["size=8MiB, type=83", "size=50MiB, type=83"], 80 * MIB, &[]),
        ("dos", ["size=8MiB, type=83", "size=50MiB, type=83"], 40 * MIB, &["partition 2"]),
    ] {
        let Some(path) = disk(directory.path(), label, &partitions) else { return };
        File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
        let reader = GuestReader::open(&path).unwrap();
        let names =
            |facts: &Facts| facts.missing.iter().map(|part| part.what.clone()).collect::<Vec<_>>();
        let found = Facts::read(&reader).unwrap();
        assert_eq!(names(&found), want, "{label} {length}");
        assert!(found.missing.iter().all(|part| part.end > length && part.end <= 80 * MIB));
        // A larger disk does not bring them back.
        let grown = reader.grown_to(200 * MIB).unwrap();
        assert_eq!(names(&Facts::read(&grown).unwrap()), want, "{label} {length}");
    }
}

#[test]
fn file_systems_that_end_behind_the_disk_are_missing() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mkfs) = program("mkfs.ext4") else { return };
    let path = directory.path().join("bare");
    File::create(&path).unwrap().set_len(40 * MIB).unwrap();
    run(&mkfs, &[&"-q", &"-F", &path]);
    assert!(facts(&path).missing.is_empty());
    let whole = fs::read(&path).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(39 * MIB).unwrap();
    let found = facts(&path);
    assert_eq!((found.missing[0].what.as_str(), found.missing[0].end), ("the ext4", 40 * MIB));
    // The same file system in a partition that is too small for it.
    let first = format!("start=1MiB, size=20MiB, {LINUX}");
    let Some(path) = disk(directory.path(), "gpt", &[&first]) else { return };
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all_at(&whole[..index(4 * MIB)], MIB)
        .unwrap();
    let found = facts(&path);
    assert!(
        found.missing.is_empty() && found.remarks[0].contains("larger than the partition"),
        "{found:?}"
    );
}

#[test]
fn tables_of_large_sectors_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let esp = format!("size=8MiB, {ESP}");
    let Some(path) = disk(directory.path(), "gpt", &[&esp]) else { return };
    let small = fs::read(&path).unwrap();
    // The same table, counted in sectors of 4096 bytes.
    let mut large = vec![0; small.len()];
    large[..512].copy_from_slice(&small[..512]);
    large[4096..4608].copy_from_slice(&small[512..1024]);
    large[8192..8192 + 16384].copy_from_slice(&small[1024..1024 + 16384]);
    fs::write(&path, &large).unwrap();
    let found = facts(&path);
    assert_eq!((found.scheme, found.sector), (Scheme::Gpt, 4096));
    assert_eq!(found.partitions[0].start, le64(&small, 1024 + 32) * 4096);
}
