//! Reads Zstandard with libzstd: one frame after another, and skippable frames between them.

use std::io::{self, BufRead, Read};

use zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd_safe::{DCtx, DParameter, ErrorCode, InBuffer, OutBuffer, ResetDirective};

use super::stream::{foreign_bytes, only_zeros, peek};

pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The end of the sixteen magics of skippable frames, after a byte 0x50 to 0x5f.
pub(super) const SKIP: [u8; 3] = [0x2a, 0x4d, 0x18];
/// Base-2 logarithm of the maximum window: that of `zstd --ultra -22` (128 MiB), the largest that a compression level
/// uses.
const WINDOW_LOG: u32 = 27;

/// A reader of the content of all frames.
pub(super) struct ZstdReader<R> {
    source: R,
    decoder: DCtx<'static>,
    /// Whether a frame has begun and not ended.
    inside: bool,
    /// Whether there was a frame.
    any: bool,
}

impl<R: BufRead> ZstdReader<R> {
    pub(super) fn new(source: R) -> io::Result<Self> {
        let mut decoder = DCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(zstd_error)?;
        Ok(Self { source, decoder, inside: false, any: false })
    }

    /// Advances to the next frame and skips skippable frames; returns `false` at the end of the file. The
    /// magic of the frame is not consumed.
    fn next_frame(&mut self) -> io::Result<bool> {
        let source = &mut self.source;
        loop {
            match peek(source)? {
                None if self.any => return Ok(false),
                Some(0) if self.any => {
                    only_zeros(source)?;
                    return Ok(false);
                }
                Some(0x50..=0x5f) => {
                    let mut head = [0; 8];
                    source.read_exact(&mut head)?;
                    if head[1..4] != SKIP {
                        return Err(foreign_bytes());
                    }
                    let len = u64::from(crate::field::le32(&head, 4));
                    if io::copy(&mut source.by_ref().take(len), &mut io::sink())? != len {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Some(byte) if byte == MAGIC[0] => break,
                _ => return Err(foreign_bytes()),
            }
        }
        self.decoder.reset(ResetDirective::SessionOnly).map_err(zstd_error)?;
        (self.inside, self.any) = (true, true);
        Ok(true)
    }
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.inside && !self.next_frame()? {
                return Ok(0);
            }
            let bytes = self.source.fill_buf()?;
            let (ended, mut input) = (bytes.is_empty(), InBuffer::around(bytes));
            let mut output = OutBuffer::around(&mut *buf);
            let left = self.decoder.decompress_stream(&mut output, &mut input);
            let (left, used, got) = (left.map_err(zstd_error)?, input.pos(), output.pos());
            self.source.consume(used);
            // 0: the frame is complete, all of it was returned, and its checksum is right.
            self.inside = left > 0;
            if got > 0 {
                return Ok(got);
            }
            if ended && self.inside {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn zstd_error(code: ErrorCode) -> io::Error {
    let memory = [
        ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge,
        ZSTD_ErrorCode::ZSTD_error_memory_allocation,
    ];
    let kind = if memory.into_iter().any(|kind| zstd_safe::is_error_kind(code, kind)) {
        io::ErrorKind::OutOfMemory
    } else {
        io::ErrorKind::InvalidData
    };
    io::Error::new(kind, zstd_safe::get_error_name(code))
}
