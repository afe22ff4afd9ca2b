//! Recognises the disk in an object by its bytes: format, size that the guest sees, and whether all of it is there. Only
//! the beginning and the end of the object are read.
//!
//! Sources: QEMU `docs/interop/qcow2.rst`; "Virtual Hard Disk Image Format Specification" 1.0, "Hard Disk Footer Format";
//! UEFI specification 2.10, section 5.2.3 (protective MBR) and 5.3.2 (GPT header).

use build_image_plugin_api::DiskFormat;

/// Bytes that are read from the beginning: they contain every signature below.
pub(crate) const HEAD: u64 = 33 << 10;
/// Bytes that are read from the end: the footer of a VHD.
pub(crate) const TAIL: u64 = 512;

/// Contents that ECS does not import: offset, signature, name.
const OTHERS: [(usize, &[u8], &str); 12] = [
    (0, b"KDMV", "a VMDK disk"),
    (0, b"COWD", "a VMDK disk"),
    (0, b"# Disk DescriptorFile", "the descriptor of a VMDK disk"),
    (0, b"vhdxfile", "a VHDX disk"),
    (64, &[0x7f, 0x10, 0xda, 0xbe], "a VDI disk"),
    (0, &[0x1f, 0x8b], "a gzip file"),
    (0, &[0xfd, b'7', b'z', b'X', b'Z', 0], "an xz file"),
    (0, &[0x28, 0xb5, 0x2f, 0xfd], "a Zstandard file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"PK\x03\x04", "a zip archive"),
    (257, b"ustar", "a tar archive"),
    (32_769, b"CD001", "an ISO image"),
];

/// A recognised disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectDisk {
    pub(crate) format: DiskFormat,
    /// Size the guest sees, bytes.
    pub(crate) virtual_size: u64,
}

/// Recognises a disk; the error is what is wrong with the object, as a fragment.
pub(crate) fn recognise(
    head: &[u8],
    tail: &[u8],
    length: u64,
    declared: &DiskFormat,
) -> Result<ObjectDisk, String> {
    let found = if head.starts_with(b"QFI\xfb") {
        qcow2(head, length)?
    } else if tail.starts_with(b"conectix") {
        vhd(tail, length)?
    } else {
        raw(head, length, *declared == DiskFormat::Raw)?
    };
    // The default is not a statement of the user; the others are.
    let stated = [DiskFormat::Raw, DiskFormat::Vhd];
    if stated.contains(declared) && found.format != *declared {
        let (is, wanted) = (found.format.word(), declared.word());
        return Err(format!("holds a {is} disk, and ALIBABA_DISK_FORMAT is `{wanted}`"));
    }
    Ok(found)
}

fn number(bytes: &[u8], offset: usize, length: usize) -> u64 {
    let field = bytes.get(offset..offset + length).unwrap_or_default();
    field.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn qcow2(head: &[u8], length: u64) -> Result<ObjectDisk, String> {
    let is = |what: &str| Err(format!("holds a qcow2 disk {what}"));
    let (version, cluster_bits) = (number(head, 4, 4), number(head, 20, 4));
    if head.len() < 72 || !(2..=3).contains(&version) || !(9..=21).contains(&cluster_bits) {
        return is("whose header is damaged");
    }
    if number(head, 8, 8) != 0 {
        return is("that is only the difference to a backing file");
    }
    if number(head, 32, 4) != 0 {
        return is("that is encrypted");
    }
    let features = if version == 3 { number(head, 72, 8) } else { 0 };
    if features & 0b10 != 0 {
        return is("that is marked as corrupt");
    }
    if features & 0b100 != 0 {
        return is("whose data is in another file");
    }
    let level_1 = number(head, 40, 8).saturating_add(number(head, 36, 4).saturating_mul(8));
    let counts = number(head, 56, 4) << cluster_bits;
    let least = level_1.max(number(head, 48, 8).saturating_add(counts));
    if length < least {
        return Err(format!(
            "is cut off: its tables end at byte {least}, and it has {length} bytes"
        ));
    }
    match number(head, 24, 8) {
        0 => is("of size 0"),
        virtual_size => Ok(ObjectDisk { format: DiskFormat::Qcow2, virtual_size }),
    }
}

fn vhd(footer: &[u8], length: u64) -> Result<ObjectDisk, String> {
    let virtual_size = number(footer, 48, 8);
    let sum = footer.iter().enumerate().filter(|(place, _)| !(64..68).contains(place));
    let sum = sum.fold(0_u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)));
    if u64::from(!sum) != number(footer, 64, 4) {
        return Err("holds a VHD disk whose footer is damaged".to_owned());
    }
    match number(footer, 60, 4) {
        2 if virtual_size.checked_add(TAIL) != Some(length) => Err(format!(
            "has {length} bytes, and its VHD footer describes a disk of {virtual_size} bytes and a footer of {TAIL}"
        )),
        2 | 3 => Ok(ObjectDisk { format: DiskFormat::Vhd, virtual_size }),
        4 => Err("holds a VHD disk that is only the difference to another one".to_owned()),
        kind => Err(format!("holds a VHD disk of unknown kind {kind}")),
    }
}

fn raw(head: &[u8], length: u64, is_declared: bool) -> Result<ObjectDisk, String> {
    let has = |place: usize, signature: &[u8]| {
        head.get(place..).is_some_and(|rest| rest.starts_with(signature))
    };
    let other = OTHERS.iter().find(|(place, signature, _)| has(*place, signature));
    if let Some((_, _, name)) = other {
        return Err(format!("is {name}"));
    }
    let is_bootable = has(510, &[0x55, 0xaa]) || has(512, b"EFI PART");
    if !is_bootable && !is_declared {
        return Err("has no signature of a qcow2 or VHD disk, and no boot sector".to_owned());
    }
    if !length.is_multiple_of(512) {
        return Err(format!("has {length} bytes, and a raw disk has a multiple of 512"));
    }
    Ok(ObjectDisk { format: DiskFormat::Raw, virtual_size: length })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 8 << 20;

    /// A valid qcow2 header with changed bytes.
    fn qcow2(changes: &[(usize, &[u8])]) -> Vec<u8> {
        let mut head = vec![0; 1 << 10];
        let fields: [(usize, &[u8]); 8] = [
            (0, b"QFI\xfb"),
            (4, &3_u32.to_be_bytes()),
            (20, &16_u32.to_be_bytes()),
            (24, &SIZE.to_be_bytes()),
            (36, &1_u32.to_be_bytes()),
            (40, &(3_u64 << 16).to_be_bytes()),
            (48, &(1_u64 << 16).to_be_bytes()),
            (56, &1_u32.to_be_bytes()),
        ];
        for (offset, bytes) in fields.iter().chain(changes) {
            head[*offset..*offset + bytes.len()].copy_from_slice(bytes);
        }
        head
    }

    /// A valid VHD footer with changed bytes; the checksum fits them.
    fn vhd(kind: u32, changes: &[(usize, &[u8])]) -> Vec<u8> {
        let mut footer = vec![0; 512];
        footer[..8].copy_from_slice(b"conectix");
        footer[48..56].copy_from_slice(&SIZE.to_be_bytes());
        footer[60..64].copy_from_slice(&kind.to_be_bytes());
        let sum: u32 = footer.iter().map(|byte| u32::from(*byte)).sum();
        footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
        for (offset, bytes) in changes {
            footer[*offset..*offset + bytes.len()].copy_from_slice(bytes);
        }
        footer
    }

    fn sector(place: usize, signature: &[u8]) -> Vec<u8> {
        let mut head = vec![0; 33 << 10];
        head[place..place + signature.len()].copy_from_slice(signature);
        head
    }

    #[test]
    fn disks_are_recognised_by_their_bytes() {
        let none = DiskFormat::Qcow2;
        let zeros = vec![0; 1 << 10];
        for (head, tail, length, declared, expected) in [
            (qcow2(&[]), zeros.clone(), 200_000, none, (DiskFormat::Qcow2, SIZE)),
            (qcow2(&[(4, &[0, 0, 0, 2])]), vec![], 200_000, none, (DiskFormat::Qcow2, SIZE)),
            (zeros.clone(), vhd(2, &[]), SIZE + 512, none, (DiskFormat::Vhd, SIZE)),
            (zeros.clone(), vhd(3, &[]), 5000, DiskFormat::Vhd, (DiskFormat::Vhd, SIZE)),
            (sector(510, &[0x55, 0xaa]), vec![], 4096, none, (DiskFormat::Raw, 4096)),
            (sector(512, b"EFI PART"), vec![], 4096, none, (DiskFormat::Raw, 4096)),
            (zeros, vec![], 4096, DiskFormat::Raw, (DiskFormat::Raw, 4096)),
        ] {
            let found = recognise(&head, &tail, length, &declared).unwrap();
            assert_eq!((found.format, found.virtual_size), expected);
        }
    }

    #[test]
    fn what_is_not_a_disk_or_not_whole_is_refused_with_the_reason() {
        let (zeros, none) = (vec![0; 33 << 10], DiskFormat::Qcow2);
        let mut wrong = vec![
            (qcow2(&[(4, &[0, 0, 0, 9])]), vec![], 200_000, none, "damaged"),
            (qcow2(&[(20, &[0, 0, 0, 60])]), vec![], 200_000, none, "damaged"),
            (qcow2(&[])[..40].to_vec(), vec![], 40, none, "damaged"),
            (qcow2(&[(8, &[1; 8])]), vec![], 200_000, none, "backing file"),
            (qcow2(&[(32, &[0, 0, 0, 1])]), vec![], 200_000, none, "encrypted"),
            (qcow2(&[(79, &[2])]), vec![], 200_000, none, "corrupt"),
            (qcow2(&[(79, &[4])]), vec![], 200_000, none, "another file"),
            (qcow2(&[]), vec![], (3 << 16) + 7, none, "is cut off: its tables end at byte 196616"),
            (qcow2(&[(40, &[0xff; 8])]), vec![], 200_000, none, "cut off"),
            (qcow2(&[(24, &[0; 8])]), vec![], 200_000, none, "size 0"),
            (qcow2(&[]), vec![], 200_000, DiskFormat::Raw, "ALIBABA_DISK_FORMAT is `raw`"),
            (zeros.clone(), vhd(2, &[]), SIZE, none, "has 8388608 bytes"),
            (zeros.clone(), vhd(2, &[(100, &[1])]), SIZE + 512, none, "footer is damaged"),
            (zeros.clone(), vhd(4, &[]), SIZE + 512, none, "difference"),
            (zeros.clone(), vhd(7, &[]), SIZE + 512, none, "unknown kind 7"),
            (zeros.clone(), vec![], 4096, none, "no boot sector"),
            (zeros.clone(), vec![], 4096, DiskFormat::Vhd, "no boot sector"),
            (zeros, vec![], 4097, DiskFormat::Raw, "multiple of 512"),
            (vec![], vec![], 0, none, "no boot sector"),
        ];
        for (place, signature, name) in OTHERS {
            wrong.push((sector(place, signature), vec![], 65_536, DiskFormat::Raw, name));
        }
        for (head, tail, length, declared, part) in wrong {
            let error = recognise(&head, &tail, length, &declared).unwrap_err();
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
