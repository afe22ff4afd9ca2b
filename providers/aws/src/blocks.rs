//! A set of block numbers, kept as ranges: an upload that runs mostly in order needs a few of them, whatever the size of
//! the disk.

use serde::{Deserialize, Serialize};

/// Bytes of a block of the EBS direct APIs.
pub(crate) const BLOCK: u64 = 512 << 10;

/// Block numbers, as ascending ranges with a gap between them: first, and one past the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Blocks(Vec<(u64, u64)>);

impl Blocks {
    /// Adds a block. Returns whether it is new.
    pub(crate) fn insert(&mut self, block: u64) -> bool {
        // The first range that begins behind the block.
        let next = self.0.partition_point(|range| range.0 <= block);
        let before = next.checked_sub(1).map(|position| self.0[position]);
        if before.is_some_and(|range| block < range.1) {
            return false;
        }
        let joins_before = before.is_some_and(|range| range.1 == block);
        let joins_next = self.0.get(next).is_some_and(|range| range.0 == block + 1);
        match (joins_before, joins_next) {
            (true, true) => {
                self.0[next - 1].1 = self.0[next].1;
                self.0.remove(next);
            }
            (true, false) => self.0[next - 1].1 += 1,
            (false, true) => self.0[next].0 = block,
            (false, false) => self.0.insert(next, (block, block + 1)),
        }
        true
    }

    /// Whether a block is in the set.
    pub(crate) fn contains(&self, block: u64) -> bool {
        let next = self.0.partition_point(|range| range.0 <= block);
        next.checked_sub(1).is_some_and(|position| block < self.0[position].1)
    }

    /// Returns the number of blocks.
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|(first, end)| end - first).sum()
    }

    /// Returns the block numbers, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|(first, end)| *first..*end)
    }

    /// Returns one past the last block.
    pub(crate) fn end(&self) -> u64 {
        self.0.last().map_or(0, |range| range.1)
    }

    /// Whether the ranges are ascending with gaps between them, and none reaches beyond `end`: they may come from a
    /// document.
    pub(crate) fn is_valid(&self, end: u64) -> bool {
        self.0.iter().all(|(first, end)| first < end)
            && self.0.windows(2).all(|pair| pair[0].1 < pair[1].0)
            && self.end() <= end
    }

    /// Returns the blocks that are not in another set.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut left = Self::default();
        for block in self.iter().filter(|block| !other.contains(*block)) {
            left.insert(block);
        }
        left
    }

    /// Returns the first block that is in one of the sets only.
    pub(crate) fn first_difference(&self, other: &Self) -> Option<u64> {
        let at = self.0.iter().zip(&other.0).position(|(mine, theirs)| mine != theirs);
        let at = at.unwrap_or_else(|| self.0.len().min(other.0.len()));
        match (self.0.get(at), other.0.get(at)) {
            (None, None) => None,
            (Some(range), None) | (None, Some(range)) => Some(range.0),
            (Some(mine), Some(theirs)) if mine.0 == theirs.0 => Some(mine.1.min(theirs.1)),
            (Some(mine), Some(theirs)) => Some(mine.0.min(theirs.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ranges_hold_what_a_plain_set_holds() {
        let (mut blocks, mut plain) = (Blocks::default(), BTreeSet::new());
        // A permutation of 0..101, some of them twice.
        for step in 0..151_u64 {
            let block = step * 37 % 101;
            assert_eq!(blocks.insert(block), plain.insert(block), "{block}");
            assert_eq!(blocks.len(), plain.len() as u64);
            assert!((0..101).all(|block| blocks.contains(block) == plain.contains(&block)));
            assert!(blocks.is_valid(101), "{blocks:?}");
            assert!(blocks.iter().eq(plain.iter().copied()), "{blocks:?}");
            assert_eq!(blocks.end(), plain.last().map_or(0, |last| last + 1));
        }
        assert_eq!(blocks.0, [(0, 101)]);
        assert_eq!(serde_json::to_string(&blocks).unwrap(), "[[0,101]]");
    }

    #[test]
    fn blocks_of_another_set_are_left_out() {
        let of = |ranges: &[(u64, u64)]| Blocks(ranges.to_vec());
        for (one, other, left) in [
            (&[(0, 9)][..], &[][..], &[(0, 9)][..]),
            (&[(0, 9)], &[(2, 3), (8, 12)], &[(0, 2), (3, 8)]),
            (&[(4, 5)], &[(0, 9)], &[]),
        ] {
            assert_eq!(of(one).without(&of(other)), of(left), "{one:?} {other:?}");
        }
    }

    #[test]
    fn the_first_difference_is_found() {
        let of = |ranges: &[(u64, u64)]| Blocks(ranges.to_vec());
        for (one, other, expected) in [
            (&[][..], &[][..], None),
            (&[(0, 4)], &[(0, 4)], None),
            (&[(0, 4)], &[], Some(0)),
            (&[(0, 4)], &[(0, 5)], Some(4)),
            (&[(0, 4)], &[(1, 4)], Some(0)),
            (&[(0, 4), (9, 10)], &[(0, 4)], Some(9)),
            (&[(0, 4), (9, 10)], &[(0, 4), (8, 10)], Some(8)),
        ] {
            assert_eq!(of(one).first_difference(&of(other)), expected, "{one:?} {other:?}");
            assert_eq!(of(other).first_difference(&of(one)), expected, "{other:?} {one:?}");
        }
    }
}
