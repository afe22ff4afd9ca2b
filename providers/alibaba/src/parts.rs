//! Divides an image into parts.
//!
//! Source: OSS documentation, "Limits" of multipart upload.

use build_image_plugin_api::{Error, ErrorKind, Result};

const MIB: u64 = 1 << 20;
/// Maximum number of parts of an upload.
const MOST_PARTS: u64 = 10_000;
/// Minimum size of a part in bytes; only the last one may be smaller.
const SMALLEST_PART: u64 = 100 << 10;
/// Maximum size of a part in bytes.
const LARGEST_PART: u64 = 5 << 30;

/// Parts of equal size, the last one shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Total bytes; an upper bound while the image is still being written.
    pub(crate) length: u64,
    /// Bytes per part.
    pub(crate) part_size: u64,
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
        Ok(Self { length, part_size })
    }

    /// The number of parts.
    pub(crate) fn count(&self) -> u32 {
        let count = self.length.div_ceil(self.part_size);
        u32::try_from(count).expect("a plan has at most 10000 parts")
    }

    /// Numbers of all parts in the order in which they are sent. Parts that contain any of the first
    /// `deferred_prefix_len` bytes, which become readable last, follow all others.
    pub(crate) fn order(&self, deferred_prefix_len: u64) -> impl Iterator<Item = u32> + use<> {
        let (count, late) = (self.count(), deferred_prefix_len.div_ceil(self.part_size));
        let late = u32::try_from(late).unwrap_or(count).min(count);
        (late + 1..=count).chain(1..=late)
    }

    /// Offset and length of a part; the first part has number 1.
    pub(crate) fn range(&self, number: u32) -> (u64, u64) {
        let offset = u64::from(number - 1) * self.part_size;
        (offset, self.part_size.min(self.length - offset))
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
    fn part_sizes_stay_within_the_services_limits() {
        assert_eq!(Plan::new(1 << 40, 1 << 40).unwrap().part_size, LARGEST_PART);
        assert_eq!(Plan::new(1 << 20, 1).unwrap().part_size, SMALLEST_PART);
        let most = Plan::new(MOST_PARTS * LARGEST_PART, 16 * MIB).unwrap();
        assert_eq!((most.count(), most.part_size), (10_000, LARGEST_PART));
        assert!(Plan::new(MOST_PARTS * LARGEST_PART + 1, 16 * MIB).is_err());
        assert!(Plan::new(0, 16 * MIB).is_err());
    }
}
