//! Reads xz and LZMA with liblzma. The blocks of an xz file are unpacked on several threads, as far as the memory for it
//! suffices.

use std::io::{self, BufRead, Read};

use liblzma::stream::{Action, Error, MtStreamBuilder, Status, Stream};

use super::stream::{foreign_bytes, only_zeros, peek};

/// Maximum memory in bytes: more than the largest window that a compression level uses, which is 64 MiB (`xz -9`).
const MEMORY: u64 = 160 << 20;
/// Maximum memory in bytes of threads; blocks that need more are unpacked one after the other.
const MEMORY_OF_THREADS: u64 = 96 << 20;
/// Maximum number of threads.
const MOST_THREADS: usize = 16;
/// The header of a stream: magic, two bytes of flags, CRC-32 (`xz-file-format.txt`, 2.1.1).
const HEADER: usize = 12;
/// First byte of its magic.
const MAGIC: u8 = 0xfd;
/// The checks that liblzma verifies: none, CRC-32, CRC-64, SHA-256 (2.1.1.2). Others it would skip.
const CHECKS: [u8; 4] = [0, 1, 4, 10];

/// A reader of one xz stream after another.
pub(super) struct XzReader<R> {
    source: R,
    stream: Option<Stream>,
    /// Whether there was a stream.
    any: bool,
}

impl<R: BufRead> XzReader<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, stream: None, any: false }
    }

    /// Starts with the next stream; returns `false` after the last one. Streams are padded with zeros.
    fn next_stream(&mut self) -> io::Result<bool> {
        if self.any {
            let padding = skip_zeros(&mut self.source)?;
            match peek(&mut self.source)? {
                None => return Ok(false),
                Some(MAGIC) if padding.is_multiple_of(4) => {}
                Some(_) => return Err(foreign_bytes()),
            }
        }
        let mut header = [0; HEADER];
        self.source.read_exact(&mut header)?;
        if !CHECKS.contains(&(header[7] & 0x0f)) {
            let text = "the file has checksums of an unknown kind";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let mut stream = MtStreamBuilder::new()
            .threads(u32::try_from(threads).unwrap_or(1))
            .memlimit_threading(MEMORY_OF_THREADS)
            .memlimit_stop(MEMORY)
            .decoder()
            .map_err(lzma_error)?;
        let mut rest = &header[..];
        while !rest.is_empty() {
            let step = step(&mut stream, rest, &mut [], false)?;
            rest = &rest[step.used..];
        }
        (self.stream, self.any) = (Some(stream), true);
        Ok(true)
    }
}

impl<R: BufRead> Read for XzReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.stream.is_none() && !self.next_stream()? {
                return Ok(0);
            }
            let got = read_stream(&mut self.stream, &mut self.source, buf)?;
            if got > 0 || buf.is_empty() {
                return Ok(got);
            }
        }
    }
}

/// A reader of LZMA, the format before xz. Only zeros may follow the data.
pub(super) struct LzmaReader<R> {
    source: R,
    stream: Option<Stream>,
}

impl<R: BufRead> LzmaReader<R> {
    pub(super) fn new(source: R) -> io::Result<Self> {
        let stream = Stream::new_lzma_decoder(MEMORY).map_err(lzma_error)?;
        Ok(Self { source, stream: Some(stream) })
    }
}

impl<R: BufRead> Read for LzmaReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = read_stream(&mut self.stream, &mut self.source, buf)?;
        if got == 0 && !buf.is_empty() {
            only_zeros(&mut self.source)?;
        }
        Ok(got)
    }
}

/// Reads from a stream, and drops it at its end; returns 0 then, and for an empty buffer.
fn read_stream(
    slot: &mut Option<Stream>,
    source: &mut impl BufRead,
    buf: &mut [u8],
) -> io::Result<usize> {
    while let Some(stream) = slot
        && !buf.is_empty()
    {
        let input = source.fill_buf()?;
        let ended = input.is_empty();
        let Step { used, got, status } = step(stream, input, buf, ended)?;
        source.consume(used);
        if status == Status::StreamEnd {
            *slot = None;
        }
        if got > 0 {
            return Ok(got);
        }
    }
    Ok(0)
}

/// What a call of the decoder did.
struct Step {
    used: usize,
    got: usize,
    status: Status,
}

fn step(stream: &mut Stream, input: &[u8], output: &mut [u8], ended: bool) -> io::Result<Step> {
    let (before_in, before_out) = (stream.total_in(), stream.total_out());
    let action = if ended { Action::Finish } else { Action::Run };
    let status = stream.process(input, output, action).map_err(lzma_error)?;
    if status == Status::MemNeeded {
        // No progress was possible: input is missing.
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let counted = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let (used, got) =
        (counted(stream.total_in() - before_in), counted(stream.total_out() - before_out));
    Ok(Step { used, got, status })
}

/// Consumes zeros; returns their number.
fn skip_zeros(source: &mut impl BufRead) -> io::Result<u64> {
    let mut zeros = 0;
    loop {
        let bytes = source.fill_buf()?;
        let len = bytes.iter().take_while(|byte| **byte == 0).count();
        let is_last = len < bytes.len() || bytes.is_empty();
        source.consume(len);
        zeros += len as u64;
        if is_last {
            return Ok(zeros);
        }
    }
}

fn lzma_error(error: Error) -> io::Error {
    let kind = match error {
        Error::Mem | Error::MemLimit => io::ErrorKind::OutOfMemory,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}
