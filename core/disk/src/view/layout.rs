//! Computes the layout of a qcow2 image with 64 KiB clusters, 16-bit refcounts, and no holes.
//! Source: QEMU, docs/interop/qcow2.txt. Order: header, refcount table, refcount blocks, L1 table, L2 tables,
//! data in guest order.

use super::allocation::{Allocation, CLUSTER};
use crate::field::index;

/// Number of guest clusters that an L2 table maps.
pub(crate) const L2_ENTRIES: u64 = CLUSTER / 8;
/// Number of clusters that a refcount block counts.
pub(crate) const BLOCK_ENTRIES: u64 = CLUSTER / 2;

/// The first cluster of each region; a region ends where the next one starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Number of entries of the L1 table.
    pub(crate) l1_entries: u64,
    pub(crate) refcount_blocks: u64,
    pub(crate) refcount_table: u64,
    pub(crate) refcount_block: u64,
    pub(crate) l1: u64,
    pub(crate) l2: u64,
    pub(crate) data: u64,
    /// Number of clusters of the whole image.
    pub(crate) total: u64,
    /// Number of L2 tables before that of each L1 entry, with the total at the end.
    l2_before: Vec<u64>,
}

impl Layout {
    /// Computes the layout of an image that stores each cluster of `map` uncompressed.
    pub(crate) fn new(map: &Allocation) -> Self {
        Self::with_room(map, 0)
    }

    /// Like [`Layout::new`], with refcounts for `room` more clusters after the data.
    pub(crate) fn with_room(map: &Allocation, room: u64) -> Self {
        let l1_entries = map.clusters().div_ceil(L2_ENTRIES);
        let mut l2_before = vec![0];
        let mut tables = 0;
        for entry in 0..l1_entries {
            tables += u64::from(map.rank((entry + 1) * L2_ENTRIES) > map.rank(entry * L2_ENTRIES));
            l2_before.push(tables);
        }
        let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
        let rest = 1 + l1_clusters + tables + map.allocated();
        let (table_clusters, refcount_blocks) = refcount_sizes(rest + room);
        let refcount_block = 1 + table_clusters;
        let l1 = refcount_block + refcount_blocks;
        let l2 = l1 + l1_clusters;
        let data = l2 + tables;
        let total = data + map.allocated();
        Self {
            l1_entries,
            refcount_blocks,
            refcount_table: 1,
            refcount_block,
            l1,
            l2,
            data,
            total,
            l2_before,
        }
    }

    /// Returns the cluster of the L2 table of an L1 entry, if it has one.
    pub(crate) fn l2_of(&self, l1_entry: u64) -> Option<u64> {
        let before = self.l2_before.get(index(l1_entry))?;
        let after = self.l2_before.get(index(l1_entry) + 1)?;
        (after > before).then_some(self.l2 + before)
    }

    /// Returns the L1 entry of L2 table number `table`.
    pub(crate) fn l1_entry_of(&self, table: u64) -> u64 {
        self.l2_before.partition_point(|before| *before <= table) as u64 - 1
    }
}

/// Returns the number of clusters of the refcount table and the number of refcount blocks, which also count
/// themselves.
fn refcount_sizes(rest: u64) -> (u64, u64) {
    let (mut table, mut blocks) = (1, 1);
    loop {
        let want_blocks = (rest + table + blocks).div_ceil(BLOCK_ENTRIES);
        let want_table = (want_blocks * 8).div_ceil(CLUSTER);
        if (want_table, want_blocks) == (table, blocks) {
            return (table, blocks);
        }
        (table, blocks) = (want_table.max(table), want_blocks.max(blocks));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refcount_blocks_count_themselves_at_every_border() {
        for rest in (1..200_000).chain([1 << 28, (1 << 28) + 1]) {
            let (table, blocks) = refcount_sizes(rest);
            assert!(blocks * BLOCK_ENTRIES >= rest + table + blocks, "{rest}");
            assert!(table * CLUSTER / 8 >= blocks, "{rest}");
            // No block is wasted: one block less would not be sufficient.
            assert!((blocks - 1) * BLOCK_ENTRIES < rest + table + blocks, "{rest}");
        }
    }
}
