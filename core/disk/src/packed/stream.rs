//! Reads the unpacked bytes of one compressed layer: its members, frames, or streams one after another. Only zeros may
//! follow the last of them, as tapes and block devices leave them (of LZMA, that is not known).

use std::error::Error as StdError;
use std::io::{self, BufRead, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use lz4_flex::frame::FrameDecoder as Lz4Decoder;
use lzma_rust2::{LzmaReader, XzReader};
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::Wrapping;

pub(super) const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The end of the sixteen magics of skippable frames, after a byte 0x50 to 0x5f.
pub(super) const ZSTD_SKIP: [u8; 3] = [0x2a, 0x4d, 0x18];
/// Maximum windows: those of `zstd --ultra -22` (128 MiB) and of `xz -9` (64 MiB), the largest that a
/// compression level uses.
const ZSTD_WINDOW: u64 = 128 << 20;
const XZ_MEMORY_KIB: u32 = 160 << 10;

/// A reader of the unpacked bytes.
pub(super) enum Stream<R: BufRead> {
    Gzip(Option<Box<GzDecoder<R>>>),
    Bzip2(Option<Box<BzDecoder<R>>>),
    Lz4(Option<Box<Lz4Decoder<UntilEnd<R>>>>),
    Xz(Box<XzReader<R>>),
    /// Its decoder reads ahead: what follows the stream is not looked at.
    Lzma(Box<LzmaReader<R>>),
    Zstd {
        source: R,
        decoder: Box<FrameDecoder>,
        inside: bool,
        any: bool,
    },
}

impl<R: BufRead> Stream<R> {
    /// Reads a compressed layer; archives have no such stream.
    pub(super) fn new(wrapping: Wrapping, source: R) -> io::Result<Self> {
        Ok(match wrapping {
            Wrapping::Gzip => Self::Gzip(Some(Box::new(GzDecoder::new(source)))),
            Wrapping::Bzip2 => Self::Bzip2(Some(Box::new(BzDecoder::new(source)))),
            Wrapping::Lz4 => Self::Lz4(Some(Box::new(Lz4Decoder::new(UntilEnd::new(source))))),
            Wrapping::Xz => {
                Self::Xz(Box::new(XzReader::new_mem_limit(source, true, XZ_MEMORY_KIB)))
            }
            Wrapping::Lzma => {
                Self::Lzma(Box::new(LzmaReader::new_mem_limit(source, XZ_MEMORY_KIB, None)?))
            }
            Wrapping::Zstd => {
                let mut decoder = Box::new(FrameDecoder::new());
                decoder.set_max_window_size(ZSTD_WINDOW);
                Self::Zstd { source, decoder, inside: false, any: false }
            }
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
            Self::Zstd { source, decoder, inside, any } => loop {
                if decoder.can_collect() > 0 {
                    return decoder.read(buf);
                }
                if *inside && decoder.is_finished() {
                    check_sum(decoder)?;
                    *inside = false;
                }
                if *inside {
                    decoder
                        .decode_blocks(&mut *source, BlockDecodingStrategy::UptoBlocks(1))
                        .map_err(zstd_error)?;
                } else if next_frame(source, *any)? {
                    (*inside, *any) = (true, true);
                    decoder.reset(&mut *source).map_err(zstd_error)?;
                } else {
                    return Ok(0);
                }
            },
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
fn peek(source: &mut impl BufRead) -> io::Result<Option<u8>> {
    Ok(source.fill_buf()?.first().copied())
}

fn only_zeros(source: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = source.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        if !crate::field::is_zero(bytes) {
            let text = "bytes follow the packed data which do not belong to it";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let len = bytes.len();
        source.consume(len);
    }
}

/// Advances to the next zstd frame and skips skippable frames; returns `false` at the end of the file. The
/// magic of the frame is not consumed.
fn next_frame(source: &mut impl BufRead, any: bool) -> io::Result<bool> {
    loop {
        match peek(source)? {
            None if any => return Ok(false),
            Some(0) if any => {
                only_zeros(source)?;
                return Ok(false);
            }
            Some(0x50..=0x5f) => {
                let mut head = [0; 8];
                source.read_exact(&mut head)?;
                if head[1..4] != ZSTD_SKIP {
                    break;
                }
                let len = u64::from(crate::field::le32(&head, 4));
                if io::copy(&mut source.by_ref().take(len), &mut io::sink())? != len {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Some(byte) if byte == ZSTD_MAGIC[0] => return Ok(true),
            _ => break,
        }
    }
    let text = "bytes follow the packed data which do not belong to it";
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

/// Compares the checksum: the decoder computes it but does not compare it.
fn check_sum(decoder: &FrameDecoder) -> io::Result<()> {
    match decoder.get_checksum_from_data() {
        Some(stored) if Some(stored) != decoder.get_calculated_checksum() => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the checksum of a frame is wrong"))
        }
        _ => Ok(()),
    }
}

/// Extracts a read error, so that a truncated file can be distinguished from a damaged one.
fn zstd_error(error: FrameDecoderError) -> io::Error {
    let mut kind = io::ErrorKind::InvalidData;
    if matches!(error, FrameDecoderError::WindowSizeTooBig { .. }) {
        kind = io::ErrorKind::OutOfMemory;
    }
    let mut next: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(inner) = next {
        if let Some(found) = inner.downcast_ref::<io::Error>() {
            kind = found.kind();
        }
        next = inner.source();
    }
    io::Error::new(kind, error)
}
