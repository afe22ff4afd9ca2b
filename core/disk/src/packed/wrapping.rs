//! Names the outermost layer of a file by its first bytes.

use std::path::Path;

use super::zstd;
use crate::error::Error;
use crate::field::{index, le32, le64};
use crate::format::Image;

/// A layer around a disk image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapping {
    /// gzip, including several members as pigz and bgzip write them.
    Gzip,
    /// xz, including several blocks and streams.
    Xz,
    /// Zstandard, including several frames and skippable ones, as pzstd writes them.
    Zstd,
    /// bzip2, including several streams as pbzip2 writes them.
    Bzip2,
    /// LZ4, including several frames.
    Lz4,
    /// LZMA, the format before xz.
    Lzma,
    /// A tar archive; an OVA is one.
    Tar,
    /// A zip archive.
    Zip,
}

/// Number of first bytes that decide.
pub(crate) const HEAD: usize = 64 << 10;
/// Most skippable frames before the first frame with data that are looked at; pzstd writes one.
const MAX_SKIPPED: usize = 64;

const MAGICS: [(&[u8], Wrapping); 7] = [
    (&[0x1f, 0x8b, 0x08], Wrapping::Gzip),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Wrapping::Xz),
    (&zstd::MAGIC, Wrapping::Zstd),
    (b"BZh", Wrapping::Bzip2),
    (&[0x04, 0x22, 0x4d, 0x18], Wrapping::Lz4),
    (b"PK\x03\x04", Wrapping::Zip),
    // An archive without members.
    (b"PK\x05\x06", Wrapping::Zip),
];

impl Wrapping {
    /// Returns the usual name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Lz4 => "lz4",
            Self::Lzma => "lzma",
            Self::Tar => "tar",
            Self::Zip => "zip",
        }
    }

    /// Returns what a file of it is called, with an article.
    pub(crate) fn described(self) -> &'static str {
        match self {
            Self::Gzip => "a gzip file",
            Self::Xz => "an xz file",
            Self::Zstd => "a zstd file",
            Self::Bzip2 => "a bzip2 file",
            Self::Lz4 => "an LZ4 file",
            Self::Lzma => "an LZMA file",
            Self::Tar => "a tar archive",
            Self::Zip => "a zip archive",
        }
    }

    /// Whether it holds members with names.
    #[must_use]
    pub fn is_archive(self) -> bool {
        matches!(self, Self::Tar | Self::Zip)
    }

    /// Detects the layer from the first bytes of its content, at most [`HEAD`].
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        let mut rest = head;
        // Skippable frames belong to zstd and to LZ4: the frame after them decides.
        for _ in 0..MAX_SKIPPED {
            let Some(frame) = rest.get(..8) else { break };
            if frame[0] & 0xf0 != 0x50 || frame[1..4] != zstd::SKIP {
                break;
            }
            rest = rest.get(8 + index(le32(frame, 4).into())..).unwrap_or_default();
        }
        let magic = MAGICS.into_iter().find(|(magic, _)| rest.starts_with(magic));
        let found = magic.map(|(_, wrapping)| wrapping);
        if rest.len() < head.len() {
            return found.filter(|found| matches!(found, Self::Zstd | Self::Lz4));
        }
        found
            .or_else(|| is_lzma(head).then_some(Self::Lzma))
            .or_else(|| is_tar(head).then_some(Self::Tar))
    }
}

/// Whether bytes begin like LZMA: the usual properties, a dictionary of a usual size, a length that is unknown or
/// smaller than any disk, and the first byte of the range coder (LZMA SDK, `lzma-specification.txt`).
fn is_lzma(head: &[u8]) -> bool {
    let Some(head) = head.get(..14) else { return false };
    let (dictionary, length) = (le32(head, 1), le64(head, 5));
    let usual = dictionary >= 1 << 12
        && (dictionary & (dictionary - 1) == 0 || dictionary % (3 << 11) == 0);
    head[0] == 0x5d && usual && (length == u64::MAX || length < 1 << 46) && head[13] == 0
}

/// Length of a header of a tar archive, and where its checksum is (POSIX.1-2017, pax, "ustar Interchange Format").
const TAR_HEADER: usize = 512;
const TAR_CHECKSUM: std::ops::Range<usize> = 148..156;

/// Whether bytes are the header of a tar archive: its checksum is right, also in archives without a magic.
fn is_tar(header: &[u8]) -> bool {
    let Some(header) = header.get(..TAR_HEADER).filter(|header| header[0] != 0) else {
        return false;
    };
    let stored = &header[TAR_CHECKSUM];
    let digits = stored.iter().skip_while(|byte| **byte == b' ');
    let stored = digits
        .take_while(|byte| (b'0'..=b'7').contains(byte))
        .fold(0_u32, |number, digit| number << 3 | u32::from(digit - b'0'));
    let (before, after) = (&header[..TAR_CHECKSUM.start], &header[TAR_CHECKSUM.end..]);
    let sum: u32 = before.iter().chain(after).map(|byte| u32::from(*byte)).sum();
    stored != 0 && stored == sum + 8 * u32::from(b' ')
}

/// Detects the outermost layer of a file; `None` when it is not packed.
///
/// # Errors
/// When the file cannot be read.
pub fn wrapping(path: &Path) -> Result<Option<Wrapping>, Error> {
    wrapping_of(&Image::open(path)?)
}

pub(super) fn wrapping_of(image: &Image) -> Result<Option<Wrapping>, Error> {
    Ok(Wrapping::of(&image.part(0, HEAD)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_header_is_known_by_its_checksum() {
        let mut header = vec![0; 512];
        header[..8].copy_from_slice(b"disk.raw");
        header[100..107].copy_from_slice(b"0000644");
        assert!(!is_tar(&header));
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert!(is_tar(&header));
        header[3] ^= 1;
        assert!(!is_tar(&header));
        assert!(!is_tar(&[0; 512]) && !is_tar(&[1; 100]));
    }
}
