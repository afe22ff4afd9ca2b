//! Deflates bytes that are entirely in memory: a cluster, a grain.
//!
//! The one-shot library is faster than the incremental one, and its streams are shorter. Its streams refer
//! back up to 32 KiB. That is suitable for qcow2: its specification declares no window, and readers that
//! start with a window of 4 KiB (QEMU, nbdkit, systemd) inflate a cluster into one buffer, where all earlier
//! bytes are in reach.

use libdeflater::{CompressionError, Compressor};

use super::Level;

/// The container of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// None (RFC 1951).
    None,
    /// Header and Adler-32 (RFC 1950).
    Zlib,
}

/// Returns the maximum length of a stream of `plain` bytes: a block of 5,000 bytes or more that does not
/// become shorter is stored for 5 bytes; header and checksum need 6.
pub(super) const fn longest(plain: u64) -> u64 {
    plain + plain / 512 + 64
}

/// The compressor of one thread.
pub(super) struct Wholes {
    compressor: Compressor,
    frame: Frame,
    room: Vec<u8>,
}

impl Wholes {
    pub(super) fn new(level: Level, frame: Frame) -> Self {
        Self { compressor: Compressor::new(level.of_wholes()), frame, room: Vec::new() }
    }

    /// Returns the stream of `plain`, or `None` when it does not fit into `most` bytes.
    pub(super) fn deflate(&mut self, plain: &[u8], most: usize) -> Option<&[u8]> {
        self.room.resize(most, 0);
        let result = match self.frame {
            Frame::None => self.compressor.deflate_compress(plain, &mut self.room),
            Frame::Zlib => self.compressor.zlib_compress(plain, &mut self.room),
        };
        match result {
            Ok(len) => Some(&self.room[..len]),
            Err(CompressionError::InsufficientSpace) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::index;

    /// Builds bytes that repeat only at a distance of 20,000 bytes: only a window of 32 KiB helps.
    fn far() -> Vec<u8> {
        let mut state = 1u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        });
        noise.take(20_000).collect::<Vec<u8>>().repeat(3)
    }

    #[test]
    fn a_stream_is_inflated_by_a_reader_that_starts_with_a_small_window() {
        let plain = far();
        let mut wholes = Wholes::new(Level::default(), Frame::None);
        let stream = wholes.deflate(&plain, plain.len()).unwrap();
        assert!(stream.len() < plain.len() / 2, "{}", stream.len());
        let mut got = vec![0; plain.len()];
        let mut inflate = flate2::Decompress::new_with_window_bits(false, 12);
        let end = inflate.decompress(stream, &mut got, flate2::FlushDecompress::Finish);
        assert_eq!(end.unwrap(), flate2::Status::StreamEnd);
        assert!(got == plain);
    }

    #[test]
    fn no_stream_exceeds_its_limit_and_an_oversized_one_is_reported() {
        let noise = &far()[..20_000];
        for level in [1, 2, 5, 9] {
            for (frame, len) in [(Frame::None, 1), (Frame::Zlib, 0), (Frame::Zlib, 20_000)] {
                let mut wholes = Wholes::new(Level::new(level), frame);
                let most = index(longest(len as u64));
                assert!(wholes.deflate(&noise[..len], most).is_some(), "{level} {len}");
            }
            let mut wholes = Wholes::new(Level::new(level), Frame::None);
            assert!(wholes.deflate(noise, noise.len() - 1).is_none(), "{level}");
        }
    }
}
