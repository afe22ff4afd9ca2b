//! A disk image inside gzip, xz or zstd: unpacked once, in a stream, into a file nobody else sees.
//!
//! ```text
//! stream.rs   members, frames and streams one after another, to the last byte of the file
//! tap.rs      the packed bytes as they are read: shown to the caller, who may stop the work
//! unpack.rs   the file without a name they are written to; zeros become holes
//! ```
//!
//! Sources: RFC 1952 (gzip), RFC 8878 (zstd), "The .xz File Format" 1.2.1. Memory is bounded by the
//! largest window that is accepted, whatever the file asks for.

mod stream;
mod tap;
mod unpack;

use std::path::Path;

pub use tap::Seen;
pub use unpack::{Unpacked, unpack};

use crate::error::Error;
use crate::format::Image;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// gzip, also of several members as pigz and bgzip write it.
    Gzip,
    /// xz, also of several blocks and streams.
    Xz,
    /// Zstandard, also of several frames.
    Zstd,
}

impl Packing {
    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

/// How the file is packed, by its first bytes; `None` when it is not.
pub fn packing(path: &Path) -> Result<Option<Packing>, Error> {
    packing_of(&Image::open(path)?)
}

fn packing_of(image: &Image) -> Result<Option<Packing>, Error> {
    let head = image.head::<6>(0)?;
    let magics: [(&[u8], Packing); 3] = [
        (&[0x1f, 0x8b, 0x08], Packing::Gzip),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], Packing::Xz),
        (&stream::ZSTD_MAGIC, Packing::Zstd),
    ];
    Ok(magics.into_iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, packing)| packing))
}

#[cfg(test)]
mod tests;
