//! Divides a disk into parts that are copied from an earlier object and parts that are sent.
//!
//! A run of unchanged blocks is copied, in parts of [`COPIED_PART`] bytes. A run that is shorter than the shortest one worth
//! a request is sent with its neighbours. When there would be more parts than the service accepts, both sizes grow.
//!
//! Source: OSS documentation, "Limits" of multipart upload; the size of copied parts is that of the vendor's copier.

use std::sync::Arc;

use crate::parts::{LARGEST_PART, MOST_PARTS, SMALLEST_PART};

/// Bytes of a copied part, when there would not be too many.
const COPIED_PART: u64 = 64 << 20;
/// The longest run of unchanged blocks that may be sent with its neighbours, in bytes, when there are few parts.
const WORTH_COPYING: u64 = 1 << 20;

/// A range of the disk: offset and length in bytes.
pub(crate) type Range = (u64, u64);

/// A part: a range, and whether the earlier object has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) is_copied: bool,
}

/// Divides `length` bytes into parts. `unchanged` are ranges of whole blocks of `block` bytes, ascending, which do not
/// overlap; only the end of the disk may be inside a block. Parts that are sent have about `wanted` bytes.
pub(crate) fn divide(length: u64, block: u64, wanted: u64, unchanged: &[Range]) -> Arc<[Piece]> {
    let blocks = |bytes: u64| (bytes / block).max(1) * block;
    // At most a thousandth of the disk is sent although it is unchanged, if the number of parts permits it.
    let mut shortest = blocks(WORTH_COPYING.min(length / 4096));
    let mut sent = blocks(wanted.clamp(SMALLEST_PART, LARGEST_PART));
    let mut copied = blocks(COPIED_PART);
    loop {
        let pieces = pieces(length, (sent, copied), &worth_copying(unchanged, shortest));
        if pieces.len() as u64 <= MOST_PARTS {
            return pieces.into();
        }
        let largest = blocks(LARGEST_PART);
        shortest = shortest.saturating_mul(2);
        (sent, copied) = ((2 * sent).min(largest), (2 * copied).min(largest));
    }
}

/// Joins adjoining ranges and removes short ones, except when nothing has to be sent beside them.
fn worth_copying(unchanged: &[Range], shortest: u64) -> Vec<Range> {
    let mut joined: Vec<Range> = Vec::new();
    for &(offset, length) in unchanged {
        match joined.last_mut() {
            Some(last) if last.0 + last.1 == offset => last.1 += length,
            _ => joined.push((offset, length)),
        }
    }
    joined.retain(|&(_, length)| length >= shortest);
    joined
}

fn pieces(length: u64, sizes: (u64, u64), copied: &[Range]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut add = |from: u64, to: u64, is_copied: bool| {
        let size = if is_copied { sizes.1 } else { sizes.0 };
        let mut offset = from;
        while offset < to {
            let length = size.min(to - offset);
            pieces.push(Piece { offset, length, is_copied });
            offset += length;
        }
    };
    let mut end = 0;
    for &(offset, range) in copied {
        add(end, offset, false);
        add(offset, offset + range, true);
        end = offset + range;
    }
    add(end, length, false);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 128 << 10;
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    /// The ranges of a disk outside of the changed ones.
    fn outside(length: u64, block: u64, changed: &[Range]) -> Vec<Range> {
        let is_changed = |index: u64| {
            let (from, to) = (index * block, (index + 1) * block);
            changed.iter().any(|&(offset, length)| offset < to && offset + length > from)
        };
        let indexes = (0..length.div_ceil(block)).filter(|&index| !is_changed(index));
        indexes.map(|index| (index * block, block.min(length - index * block))).collect()
    }

    /// Checks the limits of the service; returns the bytes that are sent.
    #[track_caller]
    fn sent(length: u64, block: u64, unchanged: &[Range], pieces: &[Piece]) -> u64 {
        assert!(pieces.len() as u64 <= MOST_PARTS);
        let mut end = 0;
        for (position, piece) in pieces.iter().enumerate() {
            assert_eq!(piece.offset, end);
            end += piece.length;
            let is_last = position + 1 == pieces.len();
            assert!(piece.length <= LARGEST_PART && piece.length > 0);
            assert!(piece.length > SMALLEST_PART || is_last, "{piece:?}");
            assert!(piece.offset % block == 0 && (piece.length % block == 0 || is_last));
            if piece.is_copied {
                let inside =
                    |at: u64| unchanged.iter().any(|run| run.0 <= at && at < run.0 + run.1);
                let mut at = piece.offset;
                while at < end {
                    assert!(inside(at), "{piece:?}");
                    at += block;
                }
            }
        }
        assert_eq!(end, length);
        pieces.iter().filter(|piece| !piece.is_copied).map(|piece| piece.length).sum()
    }

    #[test]
    fn every_division_keeps_the_limits_and_copies_only_what_is_unchanged() {
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below.max(1)
        };
        for round in 0..400 {
            let length = 1 + random([BLOCK, 3 * BLOCK, 64 * MIB, 2 * GIB][round % 4]);
            let changed: Vec<Range> =
                (0..random(40)).map(|_| (random(length), 1 + random(length / 16))).collect();
            let unchanged = outside(length, BLOCK, &changed);
            let wanted = [1, 100 << 10, MIB, 16 * MIB, u64::MAX][round % 5];
            let pieces = divide(length, BLOCK, wanted, &unchanged);
            sent(length, BLOCK, &unchanged, &pieces);
        }
    }

    #[test]
    fn one_percent_in_five_runs_sends_at_most_three_percent() {
        for length in [64 * MIB, 1000 * MIB + 512, 20 * GIB, 2048 * GIB] {
            let block = crate::delta::blocks::block_size(length);
            // Runs that begin and end inside blocks.
            let changed: Vec<Range> =
                (0..5).map(|run| (length / 5 * run + 700, length / 500)).collect();
            let unchanged = outside(length, block, &changed);
            let pieces = divide(length, block, 16 * MIB, &unchanged);
            let sent = sent(length, block, &unchanged, &pieces);
            assert!(sent * 100 <= length * 3, "{sent} of {length}");
        }
    }

    #[test]
    fn scattered_changes_stay_below_the_number_of_parts() {
        // Every other block has changed: 81,920 runs.
        let length = 20 * GIB;
        let unchanged: Vec<Range> =
            (0..length / BLOCK / 2).map(|n| (2 * n * BLOCK, BLOCK)).collect();
        let pieces = divide(length, BLOCK, BLOCK, &unchanged);
        assert_eq!(sent(length, BLOCK, &[], &pieces), length);
        // 6,000 runs, each worth copying by itself, and twice as many parts.
        let unchanged: Vec<Range> =
            (0..6000).map(|n| (n * 3 * MIB, if n % 2 == 0 { MIB } else { 2 * MIB })).collect();
        let pieces = divide(6000 * 3 * MIB, BLOCK, 16 * MIB, &unchanged);
        let least = 3000 * MIB + 3000 * 2 * MIB;
        assert!(sent(6000 * 3 * MIB, BLOCK, &unchanged, &pieces) >= least);
        assert!(pieces.iter().any(|piece| piece.is_copied), "the longer runs are copied");
    }

    #[test]
    fn an_unchanged_disk_is_copied_whole() {
        let length = 200 * MIB + 512;
        let pieces = divide(length, BLOCK, 16 * MIB, &outside(length, BLOCK, &[]));
        assert_eq!(sent(length, BLOCK, &[(0, length)], &pieces), 0);
        assert_eq!(pieces.len(), 4);
    }
}
