//! Unpacks a part of an initramfs as a stream. Memory is bounded by the largest window that is accepted.

use std::io::{self, BufReader, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use lzma_rust2::{LzmaReader, XzReader};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::cpio::Damage;
use super::lz4::{self, Lz4};
use crate::source::Source;

/// Maximum windows: those of `zstd -19` and more, and of `xz -8`, which keep an inspection below 64 MiB.
const ZSTD_WINDOW: u64 = 16 << 20;
const XZ_MEMORY_KIB: u32 = 34 << 10;

/// A compression that Linux accepts for an initramfs.
#[derive(Clone, Copy)]
pub(super) enum Packing {
    Gzip,
    Xz,
    Zstd,
    Lz4,
    Bzip2,
    Lzma,
    Lzo,
}

/// The first bytes, which Linux recognises in the same way (lib/decompress.c).
const MAGICS: [(&[u8], Packing); 8] = [
    (&[0x1f, 0x8b], Packing::Gzip),
    (&[0x1f, 0x9e], Packing::Gzip),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Packing::Xz),
    (&[0x28, 0xb5, 0x2f, 0xfd], Packing::Zstd),
    (&lz4::MAGIC, Packing::Lz4),
    (b"BZh", Packing::Bzip2),
    (&[0x5d, 0, 0], Packing::Lzma),
    (&[0x89, b'L', b'Z', b'O'], Packing::Lzo),
];

impl Packing {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Lzo => "lzo",
        }
    }
}

/// Detects the compression from the first bytes.
pub(super) fn detect(head: &[u8]) -> Option<Packing> {
    MAGICS.into_iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, packing)| packing)
}

/// Returns the unpacked bytes of one part; `input` is behind it when they have been read.
pub(super) fn reader<'a>(
    packing: Packing,
    input: &'a mut BufReader<Box<dyn Read>>,
    source: &'a Source,
) -> Result<BufReader<Counted<'a>>, Damage> {
    let damage = |error: io::Error| Damage::of(&error, source);
    let inner: Box<dyn Read + 'a> = match packing {
        Packing::Gzip => Box::new(GzDecoder::new(input)),
        Packing::Bzip2 => Box::new(BzDecoder::new(input)),
        Packing::Xz => Box::new(XzReader::new_mem_limit(input, false, XZ_MEMORY_KIB)),
        Packing::Lzma => {
            Box::new(LzmaReader::new_mem_limit(input, XZ_MEMORY_KIB, None).map_err(damage)?)
        }
        Packing::Lz4 => Box::new(Lz4::new(input).map_err(damage)?),
        Packing::Zstd => {
            let mut decoder = Box::new(FrameDecoder::new());
            decoder.set_max_window_size(ZSTD_WINDOW);
            let mut zstd = Zstd { input, decoder };
            zstd.begin().map_err(damage)?;
            Box::new(zstd)
        }
        Packing::Lzo => {
            return Err(Damage::NotInspected("it is compressed with LZO".to_owned()));
        }
    };
    Ok(BufReader::with_capacity(64 << 10, Counted { inner, source }))
}

/// Counts what is unpacked, so that an archive that grows without end is left.
pub(super) struct Counted<'a> {
    inner: Box<dyn Read + 'a>,
    source: &'a Source,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buf)?;
        let stopped = |_| io::Error::other("the inspection ended early");
        self.source.unpacked(got as u64).map(|()| got).map_err(stopped)
    }
}

struct Zstd<R> {
    input: R,
    decoder: Box<FrameDecoder>,
}

impl<R: Read> Zstd<R> {
    fn begin(&mut self) -> io::Result<()> {
        self.decoder.reset(&mut self.input).map_err(|error| wrong(&error))
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.decoder.can_collect() == 0 {
            if self.decoder.is_finished() {
                return Ok(0);
            }
            let one = BlockDecodingStrategy::UptoBlocks(1);
            self.decoder.decode_blocks(&mut self.input, one).map_err(|error| wrong(&error))?;
        }
        self.decoder.read(buf)
    }
}

/// Keeps the kind of a read error, so that a truncated file can be distinguished from a damaged one.
fn wrong(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let mut kind = io::ErrorKind::InvalidData;
    let text = error.to_string();
    let mut next = Some(error);
    while let Some(inner) = next {
        if let Some(found) = inner.downcast_ref::<io::Error>() {
            kind = found.kind();
        }
        next = inner.source();
    }
    if text.to_lowercase().contains("window") {
        kind = io::ErrorKind::OutOfMemory;
    }
    io::Error::new(kind, text)
}
