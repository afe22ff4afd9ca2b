//! Determines which clusters of a disk hold data: one bit per 64 KiB, found in one pass on all cores.
//! Holes are known without reading; a stored cluster is read only up to its first nonzero byte.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use crate::error::Error;
use crate::field::{index, is_zero};
use crate::format::GuestReader;

/// Cluster size in bytes of the images made here, the default of QEMU.
pub(crate) const CLUSTER: u64 = 64 << 10;
/// Number of clusters covered by one word of the map.
const WORD: u64 = 64;
/// Number of bytes that are checked first. Most clusters with data have some at the start; only a zero start
/// requires reading the whole cluster.
const FIRST_LOOK: usize = 4096;

/// The map: bits, and the number of set bits before each word.
#[derive(Debug)]
pub(crate) struct Allocation {
    words: Vec<u64>,
    before: Vec<u64>,
    clusters: u64,
    allocated: u64,
}

impl Allocation {
    pub(crate) fn scan(disk: &GuestReader) -> Result<Self, Error> {
        let clusters = disk.virtual_size().div_ceil(CLUSTER);
        let words: Vec<AtomicU64> =
            (0..clusters.div_ceil(WORD)).map(|_| AtomicU64::new(0)).collect();
        let next = AtomicUsize::new(0);
        let scan_error = Mutex::new(None);
        let work = || {
            let mut buf = vec![0; index(CLUSTER)];
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(word) = words.get(at) else { return };
                match scan_word(disk, at as u64 * WORD * CLUSTER, &mut buf) {
                    Ok(bits) => word.store(bits, Ordering::Relaxed),
                    Err(error) => {
                        *scan_error.lock().expect("no thread panics while it holds the lock") =
                            Some(error);
                        next.store(words.len(), Ordering::Relaxed);
                        return;
                    }
                }
            }
        };
        let threads =
            thread::available_parallelism().map_or(1, usize::from).min(words.len().max(1));
        thread::scope(|scope| {
            for _ in 1..threads {
                // This thread does the work that no further thread can be started for.
                if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
        match scan_error.into_inner().expect("no thread panics while it holds the lock") {
            Some(error) => Err(error),
            None => Ok(Self::new(words.into_iter().map(AtomicU64::into_inner).collect(), clusters)),
        }
    }

    fn new(words: Vec<u64>, clusters: u64) -> Self {
        let mut allocated = 0;
        let before = words
            .iter()
            .map(|word| {
                let so_far = allocated;
                allocated += u64::from(word.count_ones());
                so_far
            })
            .collect();
        Self { words, before, clusters, allocated }
    }

    /// Returns the number of clusters of the disk.
    pub(crate) fn clusters(&self) -> u64 {
        self.clusters
    }

    /// Returns the number of clusters that hold data.
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Returns whether a cluster holds data; `false` after the end.
    pub(crate) fn holds(&self, cluster: u64) -> bool {
        self.words.get(index(cluster / WORD)).is_some_and(|word| word >> (cluster % WORD) & 1 == 1)
    }

    /// Returns the number of clusters before this one that hold data.
    pub(crate) fn rank(&self, cluster: u64) -> u64 {
        let Some(word) = self.words.get(index(cluster / WORD)) else { return self.allocated };
        let lower = word & ((1 << (cluster % WORD)) - 1);
        self.before[index(cluster / WORD)] + u64::from(lower.count_ones())
    }

    /// Returns the cluster with number `rank` among those with data. `rank` < [`Self::allocated`].
    pub(crate) fn select(&self, rank: u64) -> u64 {
        let at = self.before.partition_point(|before| *before <= rank) - 1;
        let mut word = self.words[at];
        for _ in 0..rank - self.before[at] {
            word &= word - 1;
        }
        at as u64 * WORD + u64::from(word.trailing_zeros())
    }
}

/// Returns the bits of the 64 clusters from offset `start`.
fn scan_word(disk: &GuestReader, start: u64, buf: &mut [u8]) -> Result<u64, Error> {
    let end = disk.virtual_size().min(start + WORD * CLUSTER);
    let mut bits = 0;
    let (mut at, mut data_until) = (start, start);
    while at < end {
        // Queried once per data extent: a file system walks to the end of the extent every time.
        if at >= data_until {
            let Some(extent) = disk.extent_at(at)? else { break };
            let stop = end.min(at + extent.len);
            if extent.zero {
                at = stop;
                continue;
            }
            data_until = stop;
        }
        // Clusters are checked as a whole, so a cluster that starts in a hole is never checked twice.
        let cluster = at / CLUSTER;
        if has_data(disk, cluster * CLUSTER, buf)? {
            bits |= 1 << (cluster % WORD);
        }
        at = (cluster + 1) * CLUSTER;
    }
    Ok(bits)
}

fn has_data(disk: &GuestReader, start: u64, buf: &mut [u8]) -> Result<bool, Error> {
    let look = disk.read_at(&mut buf[..FIRST_LOOK], start)?;
    if !is_zero(&buf[..look]) {
        return Ok(true);
    }
    let rest = disk.read_at(&mut buf[FIRST_LOOK..], start + FIRST_LOOK as u64)?;
    Ok(!is_zero(&buf[FIRST_LOOK..FIRST_LOOK + rest]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_and_select_agree_with_counting() {
        let words = vec![0x8000_0000_0000_0001, 0, u64::MAX, 0x0f0f, 0];
        let map = Allocation::new(words, 5 * 64 - 3);
        let set: Vec<u64> = (0..5 * 64).filter(|cluster| map.holds(*cluster)).collect();
        assert_eq!(map.allocated(), set.len() as u64);
        for (rank, cluster) in set.iter().enumerate() {
            assert_eq!(map.select(rank as u64), *cluster);
        }
        for cluster in 0..5 * 64 + 9 {
            let want = set.iter().filter(|other| **other < cluster).count() as u64;
            assert_eq!(map.rank(cluster), want, "{cluster}");
        }
        assert!(!map.holds(1 << 40));
    }
}
