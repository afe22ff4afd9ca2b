//! Recognises the content of a disk, a partition, or a logical volume, with its identifier and its length.

use crate::field::{be32, be64, index, le16, le32, le64};

/// Content that was recognised.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Content {
    /// The name that `blkid` uses, except for LVM2.
    pub kind: &'static str,
    /// The identifier.
    pub uuid: Option<String>,
    /// The label.
    pub label: Option<String>,
    /// Bytes that it occupies from the start of its volume, if it states that.
    pub length: Option<u64>,
}

/// How the identifier of a content is stored.
#[derive(Clone, Copy)]
enum Id {
    /// 16 bytes at this offset.
    Uuid(usize),
    /// Text of 36 bytes at this offset.
    Text(usize),
    /// The serial number of a FAT at this offset.
    Serial(usize),
    Nothing,
}

/// One row. Offsets other than `at` are relative to the magic's start minus `back`.
struct Row {
    kind: &'static str,
    at: u64,
    magic: &'static [u8],
    back: u16,
    id: Id,
    /// Offset and length.
    label: Option<(usize, usize)>,
    /// Returns the length in bytes; gets at least [`WINDOW`] bytes.
    length: fn(&[u8]) -> Option<u64>,
}

/// Length of the structure that is read around a magic, in bytes.
const WINDOW: usize = 1152;

const fn row(kind: &'static str, at: u64, magic: &'static [u8]) -> Row {
    Row { kind, at, magic, back: 0, id: Id::Nothing, label: None, length: |_| None }
}

const fn swap(at: u64, back: u16) -> Row {
    Row { back, id: Id::Uuid(1036), label: Some((1052, 16)), ..row("swap", at, b"SWAPSPACE2") }
}

const RAID: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9];

/// Containers come first: their members may begin with the signature of a file system.
const ROWS: &[Row] = &[
    Row { id: Id::Text(168), ..row("LUKS", 0, b"LUKS\xba\xbe") },
    row("BitLocker", 3, b"-FVE-FS-"),
    row("LVM2", 0, b"LABELONE"),
    row("LVM2", 512, b"LABELONE"),
    row("LVM2", 1024, b"LABELONE"),
    row("LVM2", 1536, b"LABELONE"),
    row("RAID", 0, RAID),
    row("RAID", 4096, RAID),
    Row { id: Id::Uuid(32), label: Some((108, 12)), length: xfs, ..row("xfs", 0, b"XFSB") },
    Row {
        back: 0x40,
        id: Id::Uuid(0x20),
        label: Some((0x12b, 256)),
        ..row("btrfs", 0x1_0040, b"_BHRfS_M")
    },
    Row {
        back: 56,
        id: Id::Uuid(104),
        label: Some((120, 16)),
        length: ext,
        ..row("ext4", 1080, &[0x53, 0xef])
    },
    row("ZFS", 0x2_0000, &[0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0]),
    Row { id: Id::Uuid(108), ..row("f2fs", 1024, &[0x10, 0x20, 0xf5, 0xf2]) },
    Row { id: Id::Uuid(48), ..row("erofs", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]) },
    Row { length: squashfs, ..row("squashfs", 0, b"hsqs") },
    Row { back: 3, length: ntfs, ..row("ntfs", 3, b"NTFS    ") },
    Row { length: iso9660, ..row("iso9660", 32769, b"CD001") },
    swap(4086, 4086),
    swap(65526, 65526),
    Row {
        back: 82,
        id: Id::Serial(67),
        label: Some((71, 11)),
        length: fat,
        ..row("vfat", 82, b"FAT32   ")
    },
    Row {
        back: 54,
        id: Id::Serial(39),
        label: Some((43, 11)),
        length: fat,
        ..row("vfat", 54, b"FAT1")
    },
];

/// Uberblocks of ZFS are at multiples of 1 KiB in this range.
const UBERBLOCKS: std::ops::Range<u64> = 0x2_0000..0x4_0000;

/// Recognises the content of a volume. `head` returns bytes from an offset of the volume, fewer at its end.
///
/// # Errors
/// Those of `head`.
pub fn recognise<E>(
    mut head: impl FnMut(u64, usize) -> Result<Vec<u8>, E>,
) -> Result<Option<Content>, E> {
    for row in ROWS {
        let found = head(row.at, row.magic.len())?;
        if found != row.magic && !(row.kind == "ZFS" && has_uberblock(&mut head, row.magic)?) {
            continue;
        }
        let mut window = head(row.at.saturating_sub(row.back.into()), WINDOW)?;
        window.resize(WINDOW, 0);
        let uuid = match row.id {
            Id::Uuid(at) => Some(uuid(&window[at..at + 16])),
            Id::Text(at) => Some(text(&window[at..at + 36])),
            Id::Serial(at) => {
                let serial = le32(&window, at);
                Some(format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff))
            }
            Id::Nothing => None,
        };
        let label = row.label.map(|(at, len)| text(&window[at..at + len]));
        return Ok(Some(Content {
            kind: row.kind,
            uuid: uuid.filter(|id| id.bytes().any(|byte| byte != b'0' && byte != b'-')),
            label: label.filter(|label| !label.is_empty() && label != "NO NAME"),
            length: (row.length)(&window),
        }));
    }
    Ok(None)
}

fn has_uberblock<E>(
    head: &mut impl FnMut(u64, usize) -> Result<Vec<u8>, E>,
    magic: &[u8],
) -> Result<bool, E> {
    let ring = head(UBERBLOCKS.start, index(UBERBLOCKS.end - UBERBLOCKS.start))?;
    Ok(ring.chunks(1024).any(|block| block.starts_with(magic)))
}

/// ext2, ext3, ext4: blocks, the high half of their number with the feature `64bit`, and the block size (kernel
/// documentation, "ext4 Super Block"). `head` begins with the superblock.
fn ext(head: &[u8]) -> Option<u64> {
    const INCOMPAT_64BIT: u32 = 0x80;
    let high = if le32(head, 0x60) & INCOMPAT_64BIT == 0 { 0 } else { le32(head, 0x150) };
    let blocks = u64::from(high) << 32 | u64::from(le32(head, 4));
    blocks.checked_mul(1024_u64.checked_shl(le32(head, 0x18)).filter(|size| *size <= 1 << 16)?)
}

/// XFS: block size and number of data blocks (XFS Filesystem Structure, "Superblocks").
fn xfs(head: &[u8]) -> Option<u64> {
    be64(head, 8).checked_mul(be32(head, 4).into())
}

/// NTFS: bytes per sector and number of sectors, without the copy of the boot sector behind them.
fn ntfs(head: &[u8]) -> Option<u64> {
    le64(head, 0x28).checked_mul(le16(head, 0x0b).into())
}

/// SquashFS: `bytes_used` of the superblock.
fn squashfs(head: &[u8]) -> Option<u64> {
    Some(le64(head, 40))
}

/// ISO 9660 (ECMA-119 section 8.4): blocks and their size; `head` begins with the second byte of the descriptor.
fn iso9660(head: &[u8]) -> Option<u64> {
    u64::from(le32(head, 79)).checked_mul(le16(head, 127).into())
}

/// FAT: number of sectors and their size (FAT specification 1.03, section 3.1).
fn fat(head: &[u8]) -> Option<u64> {
    let sectors = match le16(head, 19) {
        0 => le32(head, 32),
        few => few.into(),
    };
    u64::from(sectors).checked_mul(le16(head, 11).into())
}

/// Returns the text of a fixed-width field, up to the first zero; bytes that are not UTF-8 are replaced.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
}

fn uuid(bytes: &[u8]) -> String {
    let hex = |range: std::ops::Range<usize>| -> String {
        bytes[range].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    [0..4, 4..6, 6..8, 8..10, 10..16].map(hex).join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{program, run};

    fn found(disk: &[u8]) -> Option<Content> {
        let head = |at: u64, most: usize| {
            let at = index(at).min(disk.len());
            Ok::<_, ()>(disk[at..(at + most).min(disk.len())].to_vec())
        };
        recognise(head).unwrap()
    }

    #[test]
    fn file_systems_state_their_length() {
        const MIB: u64 = 1 << 20;
        for (kind, tool, options, length) in [
            ("ext4", "mkfs.ext4", &["-q", "-F"][..], 48 * MIB),
            ("ext4", "mkfs.ext4", &["-q", "-F", "-b", "1024", "-O", "^64bit"], 48 * MIB),
            ("vfat", "mkfs.vfat", &["-F", "32"], 48 * MIB),
            ("vfat", "mkfs.vfat", &["-F", "16"], 48 * MIB),
            ("xfs", "mkfs.xfs", &["-q"], 320 * MIB),
        ] {
            let Some(tool) = program(tool) else { continue };
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("disk");
            // A volume that is larger than its content.
            let mut access = std::fs::File::options();
            let file =
                access.read(true).write(true).create(true).truncate(true).open(&path).unwrap();
            file.set_len(length.next_multiple_of(MIB)).unwrap();
            let mut words: Vec<&dyn AsRef<std::ffi::OsStr>> = Vec::new();
            words.extend(options.iter().map(|option| option as &dyn AsRef<std::ffi::OsStr>));
            words.push(&path);
            run(&tool, &words);
            file.set_len(512 * MIB).unwrap();
            let head = |at, most| {
                let mut bytes = vec![0; most];
                std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, at).map(|()| bytes)
            };
            let content = recognise(head).unwrap().unwrap();
            assert_eq!(content.kind, kind, "{options:?}");
            // mkfs.vfat rounds to whole tracks.
            let stated = content.length.unwrap();
            assert!(stated <= length && stated + 64 * 1024 >= length, "{kind}: {stated}, {length}");
        }
    }

    #[test]
    fn sizes_follow_from_boot_sectors() {
        let mut ntfs = vec![0; 512];
        ntfs[3..11].copy_from_slice(b"NTFS    ");
        ntfs[11..13].copy_from_slice(&512_u16.to_le_bytes());
        ntfs[0x28..0x30].copy_from_slice(&98_303_u64.to_le_bytes());
        let content = found(&ntfs).unwrap();
        assert_eq!((content.kind, content.length), ("ntfs", Some(98_303 * 512)));
        let mut iso = vec![0; 40_000];
        iso[32769..32774].copy_from_slice(b"CD001");
        iso[32848..32852].copy_from_slice(&300_u32.to_le_bytes());
        iso[32896..32898].copy_from_slice(&2048_u16.to_le_bytes());
        assert_eq!(found(&iso).unwrap().length, Some(300 * 2048));
    }

    #[test]
    fn nothing_is_found_in_nothing_and_short_volumes_do_not_panic() {
        assert!(found(&[]).is_none());
        assert!(found(&[0; 1 << 18]).is_none());
        for row in ROWS {
            let mut disk = vec![0xff; index(row.at)];
            disk.extend_from_slice(row.magic);
            assert!(found(&disk).is_some(), "{}", row.kind);
        }
    }
}
