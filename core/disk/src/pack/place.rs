//! Allocates the clusters of a deflated qcow2 image in the file, and counts the uses of each cluster of the
//! file.
//!
//! Deflated clusters are stored one after the other, byte by byte; uncompressed clusters need a whole cluster
//! of the file. While whole clusters are placed, the cluster that is partly filled with deflated ones stays
//! open for more, but only for a limited number of clusters: the bytes after it are not final before it is
//! closed.

use crate::field::index;
use crate::view::CLUSTER;

/// Deflated clusters are read in sectors.
const SECTOR: u64 = 512;
/// Maximum number of whole clusters that are placed after an open one: 16 MiB, the size of a part of an
/// upload.
const MAX_PASSED: u64 = 256;

/// Returns the maximum number of whole clusters of a file that stay partly empty when `clusters` are placed.
pub(super) fn most_waste(clusters: u64) -> u64 {
    clusters / MAX_PASSED + 2
}

/// The data region of an incomplete image.
#[derive(Debug)]
pub(super) struct Places {
    /// The offset for the next deflated cluster, and the end of the open cluster.
    cursor: u64,
    open_end: u64,
    /// The offset of the next unused cluster.
    free: u64,
    /// Number of whole clusters placed after the open cluster.
    passed: u64,
    /// Number of uses of each cluster of the file, from `first` on.
    uses: Vec<u16>,
    first: u64,
}

impl Places {
    /// Starts the allocation at cluster `first` of the file.
    pub(super) fn new(first: u64) -> Self {
        let start = first * CLUSTER;
        Self { cursor: start, open_end: start, free: start, passed: 0, uses: Vec::new(), first }
    }

    /// Allocates `len` deflated bytes, fewer than a cluster; returns the offset.
    pub(super) fn deflated(&mut self, len: u64) -> u64 {
        if self.cursor + len > self.open_end && self.open_end != self.free {
            self.cursor = self.free;
        }
        let at = self.cursor;
        self.cursor += len;
        if self.cursor > self.open_end {
            self.open_end = self.cursor.next_multiple_of(CLUSTER);
            self.free = self.open_end;
            self.passed = 0;
        }
        self.count(at, self.cursor.next_multiple_of(SECTOR));
        at
    }

    /// Allocates a whole cluster; returns its offset.
    pub(super) fn whole(&mut self) -> u64 {
        let at = self.free;
        self.free += CLUSTER;
        self.passed += 1;
        if self.cursor == self.open_end || self.passed >= MAX_PASSED {
            (self.cursor, self.open_end, self.passed) = (self.free, self.free, 0);
        }
        self.count(at, at + CLUSTER);
        at
    }

    fn count(&mut self, from: u64, to: u64) {
        let (from, to) = (from / CLUSTER - self.first, to.div_ceil(CLUSTER) - self.first);
        if self.uses.len() < index(to) {
            self.uses.resize(index(to), 0);
        }
        for uses in &mut self.uses[index(from)..index(to)] {
            // A deflated cluster has at least 60 bytes, so a cluster has at most 1100 uses.
            *uses = uses.saturating_add(1);
        }
    }

    /// Returns the offset before which nothing will be placed any more.
    pub(super) fn settled(&self) -> u64 {
        self.cursor
    }

    /// Returns the end of the image: a whole number of sectors.
    pub(super) fn end(&self) -> u64 {
        if self.open_end == self.free { self.cursor.next_multiple_of(SECTOR) } else { self.free }
    }

    /// Returns the number of uses of cluster `cluster` of the file; clusters before the data region are used
    /// once.
    pub(super) fn uses(&self, cluster: u64) -> u16 {
        match cluster.checked_sub(self.first) {
            None => 1,
            Some(place) => self.uses.get(index(place)).copied().unwrap_or(0),
        }
    }
}

/// Builds the L2 entry of a deflated cluster of `len` bytes at offset `at`. Source: qcow2.txt, "Compressed
/// Clusters Descriptor", with 64 KiB clusters: 54 bits of offset, 8 bits of further sectors.
pub(super) fn descriptor(at: u64, len: u64) -> u64 {
    const DEFLATED: u64 = 1 << 62;
    let further = (at + len - 1) / SECTOR - at / SECTOR;
    DEFLATED | further << 54 | at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deflated_clusters_share_sectors_and_every_use_is_counted() {
        let mut places = Places::new(3);
        let start = 3 * CLUSTER;
        assert_eq!(places.deflated(1000), start);
        assert_eq!(places.deflated(1000), start + 1000);
        assert_eq!(places.deflated(CLUSTER - 2000), start + 2000);
        assert_eq!((places.uses(2), places.uses(3), places.uses(4)), (1, 3, 0));
        assert_eq!((places.settled(), places.end()), (4 * CLUSTER, 4 * CLUSTER));
        // It crosses a border, so both clusters are used.
        places.deflated(CLUSTER - 1);
        assert_eq!(places.deflated(10), 5 * CLUSTER - 1);
        assert_eq!((places.uses(4), places.uses(5)), (2, 1));
        assert_eq!(places.end(), 5 * CLUSTER + 512);
    }

    #[test]
    fn an_open_cluster_is_filled_behind_whole_ones_until_the_limit() {
        let mut places = Places::new(1);
        places.deflated(100);
        assert_eq!(places.whole(), 2 * CLUSTER);
        assert_eq!(places.deflated(50), CLUSTER + 100);
        assert_eq!((places.settled(), places.end()), (CLUSTER + 150, 3 * CLUSTER));
        // Too long for the rest of the open cluster, and the cluster after it is used.
        assert_eq!(places.deflated(CLUSTER - 100), 3 * CLUSTER);
        assert_eq!(places.settled(), 4 * CLUSTER - 100);
        for number in 0..MAX_PASSED {
            assert_eq!(places.settled(), 4 * CLUSTER - 100, "{number}");
            places.whole();
        }
        assert_eq!(places.settled(), (4 + MAX_PASSED) * CLUSTER);
        assert_eq!(places.deflated(7), (4 + MAX_PASSED) * CLUSTER);
        let placed = MAX_PASSED + 6;
        assert!(places.end() <= (1 + placed + most_waste(placed)) * CLUSTER);
    }

    #[test]
    fn whole_clusters_alone_are_settled_at_once() {
        let mut places = Places::new(9);
        for number in 9..20 {
            assert_eq!(places.whole(), number * CLUSTER);
            assert_eq!(places.settled(), (number + 1) * CLUSTER);
            assert_eq!((places.uses(number), places.end()), (1, (number + 1) * CLUSTER));
        }
    }

    #[test]
    fn descriptors_count_the_sectors_behind_the_first() {
        for (at, len, further) in [
            (512, 1, 0),
            (512, 512, 0),
            (512, 513, 1),
            (1023, 1, 0),
            (1023, 2, 1),
            (600, 65535, 128),
        ] {
            assert_eq!(descriptor(at, len), 1 << 62 | further << 54 | at, "{at} {len}");
        }
    }
}
