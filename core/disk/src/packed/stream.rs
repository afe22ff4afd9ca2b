//! Reads the unpacked bytes of one compressed layer: its members, frames, or streams one after another. Only zeros may
//! follow the last of them, as tapes and block devices leave them.

use std::io::{self, BufRead, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use lz4_flex::frame::FrameDecoder as Lz4Decoder;

use super::Wrapping;
use super::xz::{LzmaReader, XzReader};
use super::zstd::ZstdReader;

/// A reader of the unpacked bytes.
pub(super) enum Stream<R: BufRead> {
    Gzip(Option<Box<GzDecoder<R>>>),
    Bzip2(Option<Box<BzDecoder<R>>>),
    Lz4(Option<Box<Lz4Decoder<UntilEnd<R>>>>),
    Xz(Box<XzReader<R>>),
    Lzma(Box<LzmaReader<R>>),
    Zstd(Box<ZstdReader<R>>),
}

impl<R: BufRead> Stream<R> {
    /// Reads a compressed layer; archives have no such stream.
    pub(super) fn new(wrapping: Wrapping, source: R) -> io::Result<Self> {
        Ok(match wrapping {
            Wrapping::Gzip => Self::Gzip(Some(Box::new(GzDecoder::new(source)))),
            Wrapping::Bzip2 => Self::Bzip2(Some(Box::new(BzDecoder::new(source)))),
            Wrapping::Lz4 => Self::Lz4(Some(Box::new(Lz4Decoder::new(UntilEnd::new(source))))),
            Wrapping::Xz => Self::Xz(Box::new(XzReader::new(source))),
            Wrapping::Lzma => Self::Lzma(Box::new(LzmaReader::new(source)?)),
            Wrapping::Zstd => Self::Zstd(Box::new(ZstdReader::new(source)?)),
            Wrapping::Tar | Wrapping::Zip => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "an archive cannot be read as a stream",
                ));
            }
        })
    }
}

impl<R: BufRead> Read for Stream<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(slot) => members(slot, buf, 0x1f, GzDecoder::new, GzDecoder::into_inner),
            Self::Bzip2(slot) => members(slot, buf, b'B', BzDecoder::new, BzDecoder::into_inner),
            Self::Lz4(slot) => {
                if let Some(decoder) = slot {
                    let got = decoder.read(buf)?;
                    // The decoder takes the end of the file for the end of the frame.
                    if got == 0 && !buf.is_empty() && decoder.get_ref().ended {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    if got > 0 || buf.is_empty() {
                        return Ok(got);
                    }
                }
                let open = |source| Lz4Decoder::new(UntilEnd::new(source));
                let next = next_member(slot, 0x04, open, |decoder| decoder.into_inner().source)?;
                if next { self.read(buf) } else { Ok(0) }
            }
            Self::Xz(reader) => reader.read(buf),
            Self::Lzma(reader) => reader.read(buf),
            Self::Zstd(reader) => reader.read(buf),
        }
    }
}

/// Reads members that follow each other, each with its own decoder; `first` is the first byte of a member.
fn members<R: BufRead, D: Read>(
    slot: &mut Option<Box<D>>,
    buf: &mut [u8],
    first: u8,
    open: impl Fn(R) -> D,
    close: impl Fn(D) -> R,
) -> io::Result<usize> {
    while let Some(decoder) = slot {
        let got = decoder.read(buf)?;
        if got > 0 || buf.is_empty() {
            return Ok(got);
        }
        next_member(slot, first, &open, &close)?;
    }
    Ok(0)
}

/// Continues with the next member; returns `false` after the last one.
fn next_member<R: BufRead, D>(
    slot: &mut Option<Box<D>>,
    first: u8,
    open: impl Fn(R) -> D,
    close: impl Fn(D) -> R,
) -> io::Result<bool> {
    let Some(decoder) = slot.take() else { return Ok(false) };
    let mut source = close(*decoder);
    match peek(&mut source)? {
        Some(byte) if byte == first => *slot = Some(Box::new(open(source))),
        Some(_) => only_zeros(&mut source)?,
        None => {}
    }
    Ok(slot.is_some())
}

/// A source that remembers that its end was read.
pub(super) struct UntilEnd<R> {
    source: R,
    ended: bool,
}

impl<R> UntilEnd<R> {
    fn new(source: R) -> Self {
        Self { source, ended: false }
    }
}

impl<R: Read> Read for UntilEnd<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.source.read(buf)?;
        self.ended |= got == 0 && !buf.is_empty();
        Ok(got)
    }
}

/// Returns the next byte without consuming it; `None` at the end of the file.
pub(super) fn peek(source: &mut impl BufRead) -> io::Result<Option<u8>> {
    Ok(source.fill_buf()?.first().copied())
}

pub(super) fn only_zeros(source: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = source.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        if !crate::field::is_zero(bytes) {
            return Err(foreign_bytes());
        }
        let len = bytes.len();
        source.consume(len);
    }
}

pub(super) fn foreign_bytes() -> io::Error {
    let text = "bytes follow the packed data which do not belong to it";
    io::Error::new(io::ErrorKind::InvalidData, text)
}
