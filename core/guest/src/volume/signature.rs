//! Names the content of a volume by its signature. Source: libblkid (util-linux) for offsets and magics; UUIDs and
//! labels are written as `blkid` prints them.

use super::Volume;
use crate::bytes::{array, le32, text, uuid};
use crate::source::Fault;

/// What a volume holds.
pub(crate) struct Content {
    /// The name that `blkid` uses, except for LVM2.
    pub(crate) kind: &'static str,
    pub(crate) uuid: Option<String>,
    pub(crate) label: Option<String>,
    /// Why its files are not read.
    pub(crate) not_inspected: Option<&'static str>,
}

impl Content {
    pub(crate) fn unknown() -> Self {
        Self { kind: "unknown", uuid: None, label: None, not_inspected: None }
    }
}

/// How the identifier of a content is stored.
enum Id {
    /// 16 bytes at this offset.
    Uuid(usize),
    /// Text of 36 bytes at this offset.
    Text(usize),
    /// The serial number of a FAT at this offset.
    Serial(usize),
    Nothing,
}

struct Signature {
    kind: &'static str,
    at: u64,
    magic: &'static [u8],
    /// Offsets are relative to the magic's start minus `back`.
    back: usize,
    id: Id,
    /// Offset and length.
    label: Option<(usize, usize)>,
    not_inspected: Option<&'static str>,
}

/// Longest structure that is read around a magic, in bytes.
const WINDOW: usize = 1024;

const fn row(kind: &'static str, at: u64, magic: &'static [u8]) -> Signature {
    Signature { kind, at, magic, back: 0, id: Id::Nothing, label: None, not_inspected: None }
}

const fn other(
    kind: &'static str,
    at: u64,
    magic: &'static [u8],
    id: Id,
    why: &'static str,
) -> Signature {
    let not_inspected = Some(why);
    Signature { kind, at, magic, back: 0, id, label: None, not_inspected }
}

/// Containers come first: their members may begin with the signature of a file system.
const SIGNATURES: &[Signature] = &[
    other("LUKS", 0, b"LUKS\xba\xbe", Id::Text(168), "it is encrypted with LUKS"),
    other("BitLocker", 3, b"-FVE-FS-", Id::Nothing, "it is encrypted with BitLocker"),
    row("LVM2", 0, b"LABELONE"),
    row("LVM2", 512, b"LABELONE"),
    row("LVM2", 1024, b"LABELONE"),
    row("LVM2", 1536, b"LABELONE"),
    other("RAID", 0, &[0xfc, 0x4e, 0x2b, 0xa9], Id::Nothing, "it is a member of a RAID"),
    other("RAID", 4096, &[0xfc, 0x4e, 0x2b, 0xa9], Id::Nothing, "it is a member of a RAID"),
    Signature {
        label: Some((108, 12)),
        ..other("xfs", 0, b"XFSB", Id::Uuid(32), "XFS is not read")
    },
    Signature {
        kind: "btrfs",
        at: 0x1_0040,
        magic: b"_BHRfS_M",
        back: 0x40,
        id: Id::Uuid(0x20),
        label: Some((0x12b, 256)),
        not_inspected: Some("btrfs is not read"),
    },
    Signature {
        kind: "ext4",
        at: 1080,
        magic: &[0x53, 0xef],
        back: 56,
        id: Id::Uuid(104),
        label: Some((120, 16)),
        not_inspected: None,
    },
    other("ZFS", 0x2_0000, &[0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0], Id::Nothing, "ZFS is not read"),
    other("f2fs", 1024, &[0x10, 0x20, 0xf5, 0xf2], Id::Uuid(108), "F2FS is not read"),
    other("erofs", 1024, &[0xe2, 0xe1, 0xf5, 0xe0], Id::Uuid(48), "EROFS is not read"),
    other("squashfs", 0, b"hsqs", Id::Nothing, "SquashFS is not read"),
    other("ntfs", 3, b"NTFS    ", Id::Nothing, "NTFS is not read"),
    other("iso9660", 32769, b"CD001", Id::Nothing, "ISO 9660 is not read"),
    Signature { back: 4086, ..swap(4086) },
    Signature { back: 65526, ..swap(65526) },
    Signature {
        kind: "vfat",
        back: 82,
        id: Id::Serial(67),
        label: Some((71, 11)),
        ..row("vfat", 82, b"FAT32   ")
    },
    Signature { back: 54, id: Id::Serial(39), label: Some((43, 11)), ..row("vfat", 54, b"FAT1") },
];

const fn swap(at: u64) -> Signature {
    Signature {
        kind: "swap",
        at,
        magic: b"SWAPSPACE2",
        back: 0,
        id: Id::Uuid(1036),
        label: Some((1052, 16)),
        not_inspected: None,
    }
}

/// Uberblocks of ZFS are at multiples of 1 KiB in this range.
const UBERBLOCKS: std::ops::Range<u64> = 0x2_0000..0x4_0000;

/// Recognises the content of a volume.
pub(crate) fn recognise(volume: &Volume) -> Result<Content, Fault> {
    for signature in SIGNATURES {
        let found = volume.head(signature.at, signature.magic.len())?;
        let is_zfs = signature.kind == "ZFS";
        if found != signature.magic && !(is_zfs && has_uberblock(volume, signature.magic)?) {
            continue;
        }
        let start = signature.at.saturating_sub(signature.back as u64);
        // Swap keeps its fields behind the first kilobyte.
        let head = volume.head(start, WINDOW + 128)?;
        let id = match signature.id {
            Id::Uuid(at) => array(&head, at).map(|bytes| uuid(&bytes)),
            Id::Text(at) => head.get(at..at + 36).map(text),
            Id::Serial(at) => {
                let serial = le32(&head, at);
                serial.map(|serial| format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff))
            }
            Id::Nothing => None,
        };
        let label = signature.label.and_then(|(at, len)| head.get(at..at + len)).map(text);
        return Ok(Content {
            kind: signature.kind,
            uuid: id.filter(|id| id.bytes().any(|byte| byte != b'0' && byte != b'-')),
            label: label.filter(|label| !label.is_empty() && label != "NO NAME"),
            not_inspected: signature.not_inspected,
        });
    }
    Ok(Content::unknown())
}

fn has_uberblock(volume: &Volume, magic: &[u8]) -> Result<bool, Fault> {
    let len = UBERBLOCKS.end - UBERBLOCKS.start;
    let ring = volume.head(UBERBLOCKS.start, crate::bytes::index(len))?;
    Ok(ring.chunks(1024).any(|block| block.starts_with(magic)))
}
