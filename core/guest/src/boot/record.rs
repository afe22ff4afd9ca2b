//! Recognises the boot records that a BIOS starts. Sources: GRUB 2.06, grub-core/boot/i386/pc (boot.S, diskboot.S) for
//! the places of block numbers; SYSLINUX, mbr/ and core/diskstart.inc.

use build_image_disk::facts::{Facts, Partition, Role, Scheme};

use crate::bytes::{array, le16, le32, le64};
use crate::model::{Evidence, Firmware, Loader};
use crate::source::Source;

const SECTOR: u64 = 512;
/// Offset of the number of the first sector of GRUB's core in its boot record.
const CORE: usize = 0x5c;
/// The same offset in the record of an image that is a disk and an ISO, which xorriso fills in (`--grub2-mbr`).
const HYBRID_CORE: usize = 0x1b0;
/// Offset of the address that GRUB 2 loads its core to, and the address. GRUB Legacy has code there.
const ADDRESS: (usize, u16) = (0x5a, 0x8000);
/// Offset of the number of the first sector of the second stage of GRUB Legacy.
const STAGE: usize = 0x44;
/// Offset of the list of blocks in the first sector of the core: number (8 bytes), length, segment.
const BLOCKS: usize = 500;
/// Texts of boot records. All but those of GRUB start the active partition.
const EXPECTED: [(&[u8], &str); 4] = [
    (b"GRUB ", "GRUB"),
    (b"Operating system load error", "SYSLINUX"),
    (b"SYSLINUX", "SYSLINUX"),
    (b"Invalid partition table", "Windows"),
];

/// Returns the boot loader of the boot record, if there is code in it.
pub(super) fn loaders(source: &Source, facts: &Facts) -> Vec<Loader> {
    let mut record = [0; 512];
    let has_code = source.read(&mut record, 0).is_ok()
        && record.ends_with(&[0x55, 0xaa])
        && record.iter().take(440).any(|byte| *byte != 0);
    // Without partitions the first sector belongs to a file system.
    if !has_code || facts.scheme == Scheme::None {
        return Vec::new();
    }
    let name = EXPECTED.iter().find(|(text, _)| contains(&record, text)).map(|(_, name)| *name);
    let problem = match name {
        Some("GRUB") => grub_problem(source, facts, &record),
        Some("SYSLINUX") => chain_problem(source, facts),
        _ => None,
    };
    vec![Loader {
        firmware: Firmware::Bios,
        name: name.unwrap_or("unknown").to_owned(),
        evidence: Evidence::of("disk", "").quoting("boot record"),
        architecture: None,
        is_fallback: true,
        is_signed: false,
        problem,
        missing_module: None,
    }]
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// Returns why the core of GRUB cannot be loaded.
fn grub_problem(source: &Source, facts: &Facts, record: &[u8]) -> Option<String> {
    let is_legacy = le16(record, ADDRESS.0) != Some(ADDRESS.1);
    let first = if is_legacy {
        le32(record, STAGE)?.into()
    } else {
        let places = [CORE, HYBRID_CORE].into_iter();
        places.filter_map(|at| le64(record, at)).find(|first| *first > 0).unwrap_or(0)
    };
    let Some(at) = first.checked_mul(SECTOR).filter(|at| *at > 0) else {
        return Some("its boot record refers to no core".to_owned());
    };
    let mut core = [0; 512];
    if source.read(&mut core, at).is_err() {
        return Some(format!("its core at sector {first} is behind the end of the disk"));
    }
    if core.iter().all(|byte| *byte == 0) {
        let biosboot = facts.partitions.iter().any(|partition| partition.role == Role::BiosBoot);
        let hint = if facts.scheme == Scheme::Gpt && !biosboot {
            ", and the disk has no BIOS boot partition"
        } else {
            ""
        };
        return Some(format!("its core at sector {first} is missing{hint}"));
    }
    if is_legacy {
        return None;
    }
    let (start, len) = (le64(&core, BLOCKS)?, le16(&core, BLOCKS + 8)?);
    let mut next = [0; 512];
    let place = start.checked_mul(SECTOR);
    let is_there = len > 0 && place.is_some_and(|at| source.read(&mut next, at).is_ok());
    if !is_there || next.iter().all(|byte| *byte == 0) {
        return Some(format!("its core at sector {first} is incomplete"));
    }
    None
}

/// Returns why the boot record finds no second boot record in the active partition.
fn chain_problem(source: &Source, facts: &Facts) -> Option<String> {
    // The boot record for GPT looks at an attribute, which the table of partitions here does not keep.
    if facts.scheme != Scheme::Mbr {
        return None;
    }
    let active: Vec<&Partition> = facts.partitions.iter().filter(|one| one.active).collect();
    let [partition] = active[..] else {
        return Some(format!("{} partitions are active instead of one", active.len()));
    };
    let mut record = [0; 512];
    let loads = source.read(&mut record, partition.start).is_ok()
        && record.ends_with(&[0x55, 0xaa])
        && array::<8>(&record, 3).is_some_and(|name| &name == b"SYSLINUX" || &name == b"EXTLINUX");
    let number = partition.number;
    (!loads && !contains(&record, b"GRUB "))
        .then(|| format!("the active partition {number} has no boot loader in its first sector"))
}
