//! Unpacks a disk image inside gzip, xz, or zstd once, as a stream, to a private file without a name.
//!
//! ```text
//! stream.rs   members, frames, and streams one after another, to the last byte of the file
//! tap.rs      the packed bytes as they are read: passed to the caller, who may stop the work
//! unpack.rs   the file without a name they are written to; zeros become holes
//! ```
//!
//! Sources: RFC 1952 (gzip), RFC 8878 (zstd), "The .xz File Format" 1.2.1. Memory is bounded by the largest
//! window that is accepted, independent of the window that the file declares.

mod stream;
mod tap;
mod unpack;

use std::path::Path;

pub use tap::Seen;
pub use unpack::{Unpacked, unpack};

use crate::error::Error;
use crate::format::Image;

/// The compression format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// gzip, including several members as pigz and bgzip write them.
    Gzip,
    /// xz, including several blocks and streams.
    Xz,
    /// Zstandard, including several frames.
    Zstd,
}

impl Packing {
    /// Returns the usual name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

/// Detects the compression format from the first bytes of the file; `None` when the file is not packed.
pub fn packing(path: &Path) -> Result<Option<Packing>, Error> {
    packing_of(&Image::open(path)?)
}

/// Most skippable frames before the first frame with data that are looked at; pzstd writes one.
const MAX_SKIPPED: usize = 64;

fn packing_of(image: &Image) -> Result<Option<Packing>, Error> {
    let mut at = 0;
    let mut head = image.head::<8>(0)?;
    // Skippable frames belong to zstd and to lz4: the frame after them decides.
    for _ in 0..MAX_SKIPPED {
        if head[0] & 0xf0 != 0x50 || head[1..4] != stream::ZSTD_SKIP {
            break;
        }
        at += 8 + u64::from(crate::field::le32(&head, 4));
        head = image.head::<8>(at)?;
    }
    if at > 0 {
        return Ok(head.starts_with(&stream::ZSTD_MAGIC).then_some(Packing::Zstd));
    }
    let magics: [(&[u8], Packing); 3] = [
        (&[0x1f, 0x8b, 0x08], Packing::Gzip),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], Packing::Xz),
        (&stream::ZSTD_MAGIC, Packing::Zstd),
    ];
    Ok(magics.into_iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, packing)| packing))
}

#[cfg(test)]
mod tests;
