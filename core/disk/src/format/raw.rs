//! What a file without an image header holds: a partition table, or some other format which must not
//! be taken for a raw disk. Sources: UEFI 2.10 section 5 (MBR and GPT headers), each format's magic.

use std::path::Path;

use super::image::Image;
use crate::error::Error;

/// The partition table at the start of a raw disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionTable {
    /// A GUID partition table (512- or 4096-byte sectors).
    Gpt,
    /// A boot record with at least one partition.
    Mbr,
    /// The boot record's signature, but no partition: a boot sector or a bare file system.
    SignatureOnly,
    /// Nothing a firmware would boot from.
    None,
}

/// Looks for a partition table at the start of the guest content of a raw file.
pub fn partition_table(path: &Path) -> Result<PartitionTable, Error> {
    find_table(&Image::open(path)?)
}

fn find_table(image: &Image) -> Result<PartitionTable, Error> {
    for sector in [512, 4096] {
        if image.head::<8>(sector)? == *b"EFI PART" {
            return Ok(PartitionTable::Gpt);
        }
    }
    let sector = image.head::<512>(0)?;
    if sector[510..] != [0x55, 0xaa] {
        return Ok(PartitionTable::None);
    }
    // Four entries of 16 bytes; byte 0 is 0x00 or 0x80, byte 4 the type (0 = unused).
    let entries = &sector[446..510];
    let plausible = entries.chunks(16).all(|entry| entry[0] & 0x7f == 0);
    let used = entries.chunks(16).any(|entry| entry[4] != 0);
    Ok(if plausible && used { PartitionTable::Mbr } else { PartitionTable::SignatureOnly })
}

/// Names a format which this crate does not read, but which is certainly not a raw disk.
pub(super) fn foreign(image: &Image) -> Result<Option<&'static str>, Error> {
    const MAGICS: [(u64, &[u8], &str); 12] = [
        (0, b"KDMV", "VMDK"),
        (0, b"COWD", "VMDK"),
        (0, b"# Disk DescriptorFile", "VMDK descriptor"),
        (0, b"vhdxfile", "VHDX"),
        (0x40, &[0x7f, 0x10, 0xda, 0xbe], "VDI"),
        (0, &[0x1f, 0x8b, 0x08], "gzip"),
        (0, &[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
        (0, &[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        (0, b"BZh", "bzip2"),
        (0, b"PK\x03\x04", "zip"),
        (257, b"ustar", "tar"),
        (32769, b"CD001", "ISO 9660"),
    ];
    for (offset, magic, name) in MAGICS {
        let found = image.head::<32>(offset)?;
        if found.starts_with(magic) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
