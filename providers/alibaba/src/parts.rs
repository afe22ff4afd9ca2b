//! Divides an image into parts.
//!
//! Source: OSS documentation, "Limits" of multipart upload.

use std::sync::Arc;

use build_image_plugin_api::{Error, ErrorKind, Result};

use crate::delta::{Piece, Range, divide};

const MIB: u64 = 1 << 20;
/// Maximum number of parts of an upload.
pub(crate) const MOST_PARTS: u64 = 10_000;
/// Minimum size of a part in bytes; only the last one may be smaller.
pub(crate) const SMALLEST_PART: u64 = 100 << 10;
/// Maximum size of a part in bytes.
pub(crate) const LARGEST_PART: u64 = 5 << 30;

/// Parts of equal size, the last one shorter; or parts of different sizes, some of which an earlier object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Total bytes; an upper bound while the image is still being written.
    pub(crate) length: u64,
    /// Bytes per part that is sent.
    pub(crate) part_size: u64,
    /// The parts, when their sizes differ.
    pieces: Option<Arc<[Piece]>>,
}

impl Plan {
    /// Divides `length` bytes into parts of `wanted` bytes, or of more when there would be too many.
    ///
    /// # Errors
    /// For an empty image and for more bytes than the service accepts.
    pub(crate) fn new(length: u64, wanted: u64) -> Result<Self> {
        if length == 0 {
            return Err(Error::new(ErrorKind::InvalidImage, "the disk image is empty"));
        }
        let needed = length.div_ceil(MOST_PARTS);
        let wanted = wanted.clamp(SMALLEST_PART, LARGEST_PART);
        let part_size = if needed > wanted { needed.div_ceil(MIB) * MIB } else { wanted };
        if part_size > LARGEST_PART {
            let message = format!("the disk image has {length} bytes; OSS takes 48.8 TB");
            return Err(Error::new(ErrorKind::InvalidImage, message)
                .with_hint("use ALIBABA_DISK_FORMAT=qcow2, which leaves holes out"));
        }
        Ok(Self { length, part_size, pieces: None })
    }

    /// The same, with parts that are whole blocks.
    pub(crate) fn in_blocks(mut self, block: u64) -> Self {
        let size = self.part_size.div_ceil(block).saturating_mul(block);
        self.part_size = if size > LARGEST_PART { LARGEST_PART / block * block } else { size };
        self
    }

    /// The same, with the ranges that an earlier object has in separate parts.
    pub(crate) fn around(self, block: u64, unchanged: &[Range]) -> Self {
        let pieces = divide(self.length, block, self.part_size, unchanged);
        Self { pieces: Some(pieces), ..self }
    }

    /// The number of parts.
    pub(crate) fn count(&self) -> u32 {
        let count = match &self.pieces {
            Some(pieces) => pieces.len() as u64,
            None => self.length.div_ceil(self.part_size),
        };
        u32::try_from(count).expect("a plan has at most 10000 parts")
    }

    /// Numbers of all parts in the order in which they are sent. Parts that contain any of the first
    /// `deferred_prefix_len` bytes, which become readable last, follow all others.
    pub(crate) fn order(&self, deferred_prefix_len: u64) -> impl Iterator<Item = u32> + use<> {
        let count = self.count();
        let late = match &self.pieces {
            Some(pieces) => {
                pieces.iter().filter(|piece| piece.offset < deferred_prefix_len).count() as u64
            }
            None => deferred_prefix_len.div_ceil(self.part_size),
        };
        let late = u32::try_from(late).unwrap_or(count).min(count);
        (late + 1..=count).chain(1..=late)
    }

    /// Offset and length of a part; the first part has number 1.
    pub(crate) fn range(&self, number: u32) -> Range {
        if let Some(piece) = self.piece(number) {
            return (piece.offset, piece.length);
        }
        let offset = u64::from(number - 1) * self.part_size;
        (offset, self.part_size.min(self.length - offset))
    }

    /// Whether an earlier object has the bytes of a part.
    pub(crate) fn is_copied(&self, number: u32) -> bool {
        self.piece(number).is_some_and(|piece| piece.is_copied)
    }

    /// The ranges that an earlier object has, adjoining ones joined.
    pub(crate) fn copied(&self) -> Vec<Range> {
        let mut ranges: Vec<Range> = Vec::new();
        let pieces = self.pieces.as_deref().unwrap_or_default();
        for piece in pieces.iter().filter(|piece| piece.is_copied) {
            match ranges.last_mut() {
                Some(last) if last.0 + last.1 == piece.offset => last.1 += piece.length,
                _ => ranges.push((piece.offset, piece.length)),
            }
        }
        ranges
    }

    fn piece(&self, number: u32) -> Option<&Piece> {
        let index = usize::try_from(number - 1).ok()?;
        self.pieces.as_ref().and_then(|pieces| pieces.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_image_without_gap_or_overlap() {
        for length in [1, 99, 16 * MIB - 1, 16 * MIB, 16 * MIB + 1, 40 * MIB] {
            let plan = Plan::new(length, 16 * MIB).unwrap();
            let mut end = 0;
            for number in 1..=plan.count() {
                let (offset, size) = plan.range(number);
                assert_eq!(offset, end);
                assert!(size > 0);
                end += size;
            }
            assert_eq!(end, length);
        }
    }

    #[test]
    fn ten_thousand_parts_are_kept_and_one_more_grows_them() {
        let fits = Plan::new(10_000 * 16 * MIB, 16 * MIB).unwrap();
        assert_eq!((fits.count(), fits.part_size), (10_000, 16 * MIB));
        let grown = Plan::new(10_000 * 16 * MIB + 1, 16 * MIB).unwrap();
        assert_eq!(grown.part_size, 17 * MIB);
        assert!(grown.count() <= 10_000);
    }

    #[test]
    fn parts_of_a_late_head_are_sent_last() {
        let plan = Plan::new(5 * MIB, MIB).unwrap();
        let order = |deferred_prefix_len| plan.order(deferred_prefix_len).collect::<Vec<_>>();
        assert_eq!(order(0), [1, 2, 3, 4, 5]);
        assert_eq!(order(1), [2, 3, 4, 5, 1]);
        assert_eq!(order(MIB), [2, 3, 4, 5, 1]);
        assert_eq!(order(MIB + 1), [3, 4, 5, 1, 2]);
        assert_eq!(order(u64::MAX), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn parts_in_blocks_are_whole_blocks_and_not_too_large() {
        const BLOCK: u64 = 128 << 10;
        for (length, wanted, expected) in [
            (40 * MIB, 16 * MIB, 16 * MIB),
            (40 * MIB, 1, BLOCK),
            (40 * MIB, 16 * MIB + 1, 16 * MIB + BLOCK),
            (1 << 40, LARGEST_PART, LARGEST_PART),
        ] {
            let plan = Plan::new(length, wanted).unwrap().in_blocks(BLOCK);
            assert_eq!(plan.part_size, expected, "{length} {wanted}");
        }
    }

    #[test]
    fn part_sizes_stay_within_the_services_limits() {
        assert_eq!(Plan::new(1 << 40, 1 << 40).unwrap().part_size, LARGEST_PART);
        assert_eq!(Plan::new(1 << 20, 1).unwrap().part_size, SMALLEST_PART);
        let most = Plan::new(MOST_PARTS * LARGEST_PART, 16 * MIB).unwrap();
        assert_eq!((most.count(), most.part_size), (10_000, LARGEST_PART));
        assert!(Plan::new(MOST_PARTS * LARGEST_PART + 1, 16 * MIB).is_err());
        assert!(Plan::new(0, 16 * MIB).is_err());
    }
}
