//! Writes one deflate stream (RFC 1951) with many threads. Every step is compressed separately and ends on a
//! byte border with an empty stored block (a "sync flush"), so that the pieces can be concatenated; an empty
//! last block ends the stream. Runs of zeros share one piece that is compressed once.

use std::sync::Arc;

use crc_fast::{CrcAlgorithm, checksum, checksum_combine};
use flate2::{Compress, FlushCompress, Status};

use super::Level;
use super::control::Progress;
use super::engine::{PoolConfig, in_order};
use super::output::Output;
use super::steps::{STEP, Segment, Step, Steps};
use crate::error::{Error, Kind};
use crate::field::{index, is_zero};

/// The CRC-32 of gzip and zip.
const CRC: CrcAlgorithm = CrcAlgorithm::Crc32IsoHdlc;
/// An empty block with fixed codes that is marked as the last one.
const END: [u8; 2] = [3, 0];
/// Number of pieces of zeros that are written with one call.
const ZEROS_AT_ONCE: u64 = 64;

/// The lengths and the checksum of a deflate stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Deflated {
    pub(super) crc: u32,
    /// Length of the input in bytes.
    pub(super) plain: u64,
    /// Length of the output in bytes.
    pub(super) packed: u64,
}

/// Returns the maximum length of a stream of pieces: stored blocks of 16 KiB cost 5 bytes each, the end of a
/// step 5 more.
pub(super) fn longest(plain: u64) -> u64 {
    plain + (plain / (8 << 10) + plain / STEP + 4) * 8
}

/// The result of a step.
enum Piece {
    Data { packed: Vec<u8>, crc: u32, plain: u64 },
    Zeros { steps: u64 },
}

/// The compressor of one thread.
struct Deflater {
    compress: Compress,
    plain: Vec<u8>,
}

impl Deflater {
    fn new(level: Level) -> Self {
        // No header, and the full window of 32 KiB.
        let compress = Compress::new_with_window_bits(level.of_streams(), false, 15);
        Self { compress, plain: Vec::new() }
    }

    /// Compresses `plain` so that other pieces can follow.
    fn piece(&mut self, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::with_capacity(index(longest(plain.len() as u64)));
        self.compress.reset();
        loop {
            let taken = index(self.compress.total_in());
            let status = self.compress.compress_vec(&plain[taken..], &mut out, FlushCompress::Sync);
            let status = status.map_err(|source| {
                Error::new(Kind::Tool, "the compressor failed").caused_by(source)
            })?;
            // A flush is complete when space was left after it.
            let all = index(self.compress.total_in()) == plain.len();
            if all && (out.len() < out.capacity() || status == Status::BufError) {
                return Ok(out);
            }
            out.reserve(64 << 10);
        }
    }
}

/// Appends `segments` as one deflate stream to `out`; `progress` counts their bytes.
pub(super) fn deflate(
    out: &mut Output,
    segments: &[Segment],
    level: Level,
    progress: &mut Progress,
) -> Result<Deflated, Error> {
    let control = out.control();
    let config = PoolConfig { threads: control.threads(), window: control.window(index(2 * STEP)) };
    let zeros = Zeros::new(level)?;
    let start = out.end();
    let mut sum = Deflated::default();
    let work = |own: &mut Deflater, step: Result<Step, Error>| pack(own, segments, step?);
    let take = |piece: Piece| {
        let (crc, plain) = match piece {
            Piece::Data { packed, crc, plain } => {
                out.append(&packed)?;
                (crc, plain)
            }
            Piece::Zeros { steps } => (zeros.append(out, steps)?, steps * STEP),
        };
        sum.crc = combine(sum.crc, crc, plain);
        sum.plain += plain;
        out.publish(out.end());
        progress.done += plain;
        out.report(*progress)
    };
    in_order(config, Steps::new(segments), || Deflater::new(level), work, take)?;
    out.append(&END)?;
    sum.packed = out.end() - start;
    Ok(sum)
}

fn pack(own: &mut Deflater, segments: &[Segment], step: Step) -> Result<Piece, Error> {
    let (segment, at, len) = match step {
        Step::Zeros { steps } => return Ok(Piece::Zeros { steps }),
        Step::Data { segment, at, len } => (segment, at, len),
    };
    let mut plain = std::mem::take(&mut own.plain);
    plain.resize(index(len), 0);
    let piece = segments[segment].read(&mut plain, at).and_then(|()| {
        if len == STEP && is_zero(&plain) {
            return Ok(Piece::Zeros { steps: 1 });
        }
        Ok(Piece::Data { packed: own.piece(&plain)?, crc: crc32(&plain), plain: len })
    });
    own.plain = plain;
    piece
}

/// A step of zeros, compressed once.
struct Zeros {
    many: Arc<[u8]>,
    one: usize,
    crc: u32,
}

impl Zeros {
    fn new(level: Level) -> Result<Self, Error> {
        let plain = vec![0; index(STEP)];
        let one = Deflater::new(level).piece(&plain)?;
        let many = one.repeat(index(ZEROS_AT_ONCE)).into();
        Ok(Self { many, one: one.len(), crc: crc32(&plain) })
    }

    /// Appends `steps` steps; returns the CRC of the zeros that they represent.
    fn append(&self, out: &mut Output, steps: u64) -> Result<u32, Error> {
        let (mut left, mut crc) = (steps, 0);
        while left > 0 {
            let now = left.min(ZEROS_AT_ONCE);
            out.append(&self.many[..index(now) * self.one])?;
            for _ in 0..now {
                crc = combine(crc, self.crc, STEP);
            }
            left -= now;
        }
        Ok(crc)
    }
}

/// Computes the CRC-32 of the bytes.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    narrow(checksum(CRC, bytes))
}

/// Combines the CRC-32 values of two ranges, given the length of the second one.
fn combine(first: u32, second: u32, second_len: u64) -> u32 {
    narrow(checksum_combine(CRC, first.into(), second.into(), second_len))
}

fn narrow(crc: u64) -> u32 {
    u32::try_from(crc & u64::from(u32::MAX)).unwrap_or(0)
}
