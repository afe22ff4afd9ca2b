//! Computes SHA-256 and CRC-64 of the disk by blocks, while it is read. The table has at most [`MOST_BLOCKS`] rows of
//! 48 bytes for a new disk, twice as many for one that takes over the blocks of an earlier object.

use std::sync::{Mutex, OnceLock, PoisonError};

use crc_fast::{CrcAlgorithm, Digest as Crc};
use sha2::{Digest as _, Sha256};

use crate::reader::combine;

/// Minimum size of a block in bytes: a power of two above the minimum size of a part.
pub(crate) const SMALLEST_BLOCK: u64 = 128 << 10;
/// Maximum size of a block in bytes.
pub(crate) const LARGEST_BLOCK: u64 = 1 << 30;
/// Maximum number of blocks of a new disk.
const MOST_BLOCKS: u64 = 1 << 16;
/// Zeros that are hashed in one call.
const ZEROS: [u8; 16 << 10] = [0; 16 << 10];

/// Digests of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) sha256: [u8; 32],
    pub(crate) crc: u64,
}

/// The size of the blocks of a new disk: a power of two.
pub(crate) fn block_size(length: u64) -> u64 {
    let wanted = length.div_ceil(MOST_BLOCKS).max(SMALLEST_BLOCK);
    wanted.checked_next_power_of_two().unwrap_or(LARGEST_BLOCK).min(LARGEST_BLOCK)
}

/// Whether a disk can be compared by blocks of a size that was chosen for another disk.
pub(crate) fn is_usable(block_size: u64, length: u64) -> bool {
    block_size.is_power_of_two()
        && (SMALLEST_BLOCK..=LARGEST_BLOCK).contains(&block_size)
        && length.div_ceil(block_size) <= 2 * MOST_BLOCKS
}

/// The blocks of a disk, as far as they have been read.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// Bytes of the disk.
    pub(crate) length: u64,
    /// Bytes per block; the last one may be shorter.
    pub(crate) size: u64,
    known: Mutex<Vec<Option<Block>>>,
    /// A whole block of zeros.
    zero: OnceLock<Block>,
}

impl Blocks {
    /// An empty table.
    pub(crate) fn new(length: u64, size: u64) -> Self {
        let count = usize::try_from(length.div_ceil(size)).unwrap_or(usize::MAX);
        Self { length, size, known: Mutex::new(vec![None; count]), zero: OnceLock::new() }
    }

    /// Bytes of a block.
    pub(crate) fn length_of(&self, index: usize) -> u64 {
        length_of(self.length, self.size, index)
    }

    /// All blocks; `None` when some have not been read.
    pub(crate) fn all(&self) -> Option<Vec<Block>> {
        self.lock().iter().copied().collect()
    }

    /// Ranges (offset and length) of blocks that have not been read.
    pub(crate) fn missing(&self) -> Vec<(u64, u64)> {
        let known = self.lock();
        let missing = known.iter().enumerate().filter(|(_, block)| block.is_none());
        let range = |(index, _)| (index as u64 * self.size, self.length_of(index));
        missing.map(range).collect()
    }

    /// CRC-64 of a range of whole blocks; `None` when some have not been read.
    pub(crate) fn crc(&self, offset: u64, length: u64) -> Option<u64> {
        if !self.is_aligned(offset, length) || length == 0 {
            return None;
        }
        let known = self.lock();
        let first = usize::try_from(offset / self.size).ok()?;
        let count = usize::try_from(length.div_ceil(self.size)).ok()?;
        let mut whole = 0;
        for index in first..first + count {
            let crc = known.get(index).copied().flatten()?.crc;
            whole = combine(whole, crc, self.length_of(index));
        }
        Some(whole)
    }

    /// Whether a range begins and ends where blocks do.
    fn is_aligned(&self, offset: u64, length: u64) -> bool {
        let end = offset + length;
        offset.is_multiple_of(self.size)
            && (end.is_multiple_of(self.size) || end == self.length)
            && end <= self.length
    }

    fn enter(&self, index: u64, block: Block) {
        let mut known = self.lock();
        let row = usize::try_from(index).ok().and_then(|index| known.get_mut(index));
        if let Some(row) = row {
            *row = Some(block);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Option<Block>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a block of a disk.
pub(crate) fn length_of(length: u64, size: u64, index: usize) -> u64 {
    size.min(length - index as u64 * size)
}

/// Computes the CRC-64 of a range that is read in order, and enters the digests of its blocks into a table, if there is
/// one.
pub(crate) struct RangeDigest<'a> {
    blocks: Option<&'a Blocks>,
    /// CRC-64 of the blocks before the current one, and the position in the disk.
    whole: u64,
    position: u64,
    block: BlockDigest,
    plain: Crc,
}

impl<'a> RangeDigest<'a> {
    /// Starts a range. One that is known, and one that does not begin or end where blocks do, are not entered.
    pub(crate) fn new(blocks: Option<&'a Blocks>, offset: u64, length: u64) -> Self {
        let is_new = |blocks: &&Blocks| {
            blocks.is_aligned(offset, length) && blocks.crc(offset, length).is_none()
        };
        Self {
            blocks: blocks.filter(is_new),
            whole: 0,
            position: offset,
            block: BlockDigest::default(),
            plain: Crc::new(CrcAlgorithm::Crc64Xz),
        }
    }

    /// Adds bytes.
    pub(crate) fn update(&mut self, mut data: &[u8]) {
        let Some(blocks) = self.blocks else {
            self.plain.update(data);
            return;
        };
        while !data.is_empty() {
            let rest = blocks.size - self.block.length;
            let count = usize::try_from(rest).unwrap_or(usize::MAX).min(data.len());
            let (now, later) = data.split_at(count);
            self.block.update(now);
            self.position += count as u64;
            data = later;
            if self.block.length == blocks.size || self.position == blocks.length {
                self.end_block(blocks);
            }
        }
    }

    fn end_block(&mut self, blocks: &Blocks) {
        let digest = std::mem::take(&mut self.block);
        let length = digest.length;
        let block = if digest.is_zero() && length == blocks.size {
            *blocks.zero.get_or_init(|| digest.finish())
        } else {
            digest.finish()
        };
        self.whole = combine(self.whole, block.crc, length);
        blocks.enter((self.position - 1) / blocks.size, block);
    }

    /// CRC-64 of the range.
    pub(crate) fn finalize(self) -> u64 {
        if self.blocks.is_none() {
            return self.plain.finalize();
        }
        let length = self.block.length;
        if length == 0 { self.whole } else { combine(self.whole, self.block.finish().crc, length) }
    }
}

/// The digests of a block. Zeros at its start are only counted: most blocks of a sparse disk are zero throughout, and
/// equal.
#[derive(Default)]
struct BlockDigest {
    length: u64,
    digests: Option<(Sha256, Crc)>,
}

impl BlockDigest {
    fn is_zero(&self) -> bool {
        self.digests.is_none()
    }

    fn update(&mut self, data: &[u8]) {
        if self.digests.is_some() || !is_zero(data) {
            let (sha, crc) = self.started();
            sha.update(data);
            crc.update(data);
        }
        self.length += data.len() as u64;
    }

    /// The digests, which include the zeros that were counted.
    fn started(&mut self) -> &mut (Sha256, Crc) {
        let zeros = self.length;
        self.digests.get_or_insert_with(|| {
            let (mut sha, mut crc) = (Sha256::new(), Crc::new(CrcAlgorithm::Crc64Xz));
            let mut left = zeros;
            while left > 0 {
                let count = usize::try_from(left).unwrap_or(ZEROS.len()).min(ZEROS.len());
                sha.update(&ZEROS[..count]);
                crc.update(&ZEROS[..count]);
                left -= count as u64;
            }
            (sha, crc)
        })
    }

    fn finish(mut self) -> Block {
        self.started();
        let (sha, crc) =
            self.digests.unwrap_or_else(|| (Sha256::new(), Crc::new(CrcAlgorithm::Crc64Xz)));
        Block { sha256: sha.finalize().into(), crc: crc.finalize() }
    }
}

/// Whether all bytes are zero. Data is recognized by its first bytes.
fn is_zero(data: &[u8]) -> bool {
    data.chunks(64).all(|some| some.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block computed without shortcuts.
    fn plain(data: &[u8]) -> Block {
        let mut crc = Crc::new(CrcAlgorithm::Crc64Xz);
        crc.update(data);
        Block { sha256: Sha256::digest(data).into(), crc: crc.finalize() }
    }

    #[test]
    fn blocks_are_digested_whatever_the_pieces_they_are_read_in() {
        let size = usize::try_from(SMALLEST_BLOCK).unwrap();
        // Data, zeros, zeros and then data, data and then zeros, and a short block.
        let mut disk = vec![0_u8; 4 * size + 1000];
        disk[..size].fill(7);
        disk[3 * size - 1] = 1;
        disk[3 * size] = 2;
        disk[4 * size + 999] = 3;
        let whole = plain(&disk).crc;
        for piece in [1000, size / 2 + 1, size, 3 * size, disk.len()] {
            let blocks = Blocks::new(disk.len() as u64, size as u64);
            let mut digest = RangeDigest::new(Some(&blocks), 0, disk.len() as u64);
            disk.chunks(piece).for_each(|some| digest.update(some));
            assert_eq!(digest.finalize(), whole, "{piece}");
            let expected: Vec<Block> = disk.chunks(size).map(plain).collect();
            assert_eq!(blocks.all().unwrap(), expected, "{piece}");
            assert_eq!(blocks.crc(0, disk.len() as u64), Some(whole));
            let tail = blocks.crc(3 * size as u64, size as u64 + 1000);
            assert_eq!(tail, Some(plain(&disk[3 * size..]).crc));
        }
    }

    #[test]
    fn a_range_between_blocks_has_a_checksum_and_enters_nothing() {
        let disk: Vec<u8> = (0..SMALLEST_BLOCK * 2).map(|n| n.to_le_bytes()[0]).collect();
        let blocks = Blocks::new(SMALLEST_BLOCK * 2, SMALLEST_BLOCK);
        for (offset, length) in [(1, SMALLEST_BLOCK), (0, 100), (SMALLEST_BLOCK, 7)] {
            let range = usize::try_from(offset).unwrap()..usize::try_from(offset + length).unwrap();
            let mut digest = RangeDigest::new(Some(&blocks), offset, length);
            digest.update(&disk[range.clone()]);
            assert_eq!(digest.finalize(), plain(&disk[range]).crc);
        }
        assert_eq!(blocks.missing(), [(0, SMALLEST_BLOCK), (SMALLEST_BLOCK, SMALLEST_BLOCK)]);
        assert_eq!((blocks.all(), blocks.crc(0, SMALLEST_BLOCK)), (None, None));
    }

    #[test]
    fn the_size_of_blocks_keeps_their_number_within_bounds() {
        const GIB: u64 = 1 << 30;
        for (length, size) in [
            (1, SMALLEST_BLOCK),
            (8 * GIB, SMALLEST_BLOCK),
            (8 * GIB + 1, 2 * SMALLEST_BLOCK),
            (20 * GIB, 512 << 10),
            (2048 * GIB, 32 << 20),
            (u64::MAX, LARGEST_BLOCK),
        ] {
            assert_eq!(block_size(length), size, "{length}");
        }
        for (size, length, expected) in [
            (SMALLEST_BLOCK, 1, true),
            (SMALLEST_BLOCK, 16 * GIB, true),
            (SMALLEST_BLOCK, 16 * GIB + 1, false),
            (SMALLEST_BLOCK / 2, 1, false),
            (SMALLEST_BLOCK + 1, 1, false),
            (0, 1, false),
            (LARGEST_BLOCK * 2, 1, false),
        ] {
            assert_eq!(is_usable(size, length), expected, "{size} {length}");
        }
    }
}
