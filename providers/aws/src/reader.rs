//! Reads the disk block by block, skips zeros, computes SHA-256, and compares with what an earlier snapshot has.

use std::sync::{Arc, Mutex, OnceLock};

use build_image_plugin_api::{Context, Disk, Error, Result};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::{
    blocks::{BLOCK, Blocks},
    delta::Manifest,
    ebs::Digest,
    transfer::{joined, lock},
};

/// Blocks of an earlier snapshot that are compared before it becomes a base, at most.
const SAMPLE: usize = 64;
/// What all blocks of a disk come to.
pub(crate) struct Content {
    /// Blocks that the snapshot has: those that are not zeros, and those that its parent has.
    pub(crate) present: Blocks,
    /// Those of them that are zeros.
    pub(crate) zeros: Blocks,
    /// Number of blocks that had to be sent: those that the parent does not have, or has otherwise.
    pub(crate) changed: u64,
    /// SHA-256 of the SHA-256 of these, in ascending order.
    pub(crate) digest: Digest,
    /// SHA-256 of each block that the snapshot has, in ascending order; empty unless they are wanted.
    pub(crate) digests: Vec<Digest>,
}

/// A block of the disk.
pub(crate) struct Block {
    pub(crate) number: u64,
    /// What to send, and its digest; nothing for zeros, and for a block that the service has.
    pub(crate) data: Option<(Bytes, Digest)>,
}

/// Free buffers of one block each: all memory that is freed is overwritten, so they are used again.
type Pool = Arc<Mutex<Vec<Vec<u8>>>>;

/// A filled buffer; returns to the pool when its last user drops it.
struct Filled {
    buffer: Vec<u8>,
    pool: Pool,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        lock(&self.pool).push(std::mem::take(&mut self.buffer));
    }
}

/// Reads the disk from its first block to its last.
pub(crate) struct Reader {
    pub(crate) context: Context,
    pub(crate) disk: Disk,
    /// Bytes of the disk.
    pub(crate) total: u64,
    /// Blocks that the service has.
    pub(crate) known: Blocks,
    /// What the parent of the snapshot has.
    pub(crate) parent: Arc<Manifest>,
    /// Whether the digests of all blocks are wanted.
    pub(crate) records_digests: bool,
}

/// Compares a few blocks of an earlier snapshot with a disk: how many there were, and how many are equal.
///
/// # Errors
/// When the disk cannot be read.
pub(crate) async fn sample(
    context: &Context,
    disk: &Disk,
    earlier: &Arc<Manifest>,
) -> Result<(usize, usize)> {
    let reader = Reader {
        context: context.clone(),
        total: disk.length.unwrap_or(disk.virtual_size),
        disk: disk.clone(),
        known: Blocks::default(),
        parent: Arc::clone(earlier),
        records_digests: false,
    };
    joined(tokio::task::spawn_blocking(move || reader.sample())).await
}

impl Reader {
    /// Compares blocks of the parent at equal distances.
    fn sample(&self) -> Result<(usize, usize)> {
        let step = self.parent.digests.len().div_ceil(SAMPLE).max(1);
        let (mut buffer, mut compared, mut equal) = (Vec::new(), 0, 0);
        let all = self.parent.blocks.iter().zip(&self.parent.digests);
        for (number, earlier) in all.step_by(step) {
            self.context.check_cancelled()?;
            self.read(number, &mut buffer)?;
            compared += 1;
            equal += usize::from(Sha256::digest(&buffer)[..] == earlier[..]);
        }
        Ok((compared, equal))
    }

    /// Passes on every block, with what is to be sent. Returns what the blocks come to.
    ///
    /// # Errors
    /// When the disk cannot be read, or the upload has ended.
    pub(crate) fn run(&self, sender: &mpsc::Sender<Block>) -> Result<Content> {
        let (mut present, mut zeros) = (Blocks::default(), Blocks::default());
        let (mut changed, mut all, mut digests) = (0, Sha256::new(), Vec::new());
        let (mut buffer, pool, zero) = (Vec::new(), Pool::default(), zero_digest());
        let mut before = self.parent.blocks.iter().zip(&self.parent.digests).peekable();
        // Where the disk has ended, the parent may have data.
        let end = self.total.div_ceil(BLOCK).max(self.parent.blocks.end());
        for number in 0..end {
            self.context.check_cancelled()?;
            self.read(number, &mut buffer)?;
            let earlier = before.next_if(|(block, _)| *block == number).map(|(_, digest)| *digest);
            let is_zero = is_zero(&buffer);
            let mut data = None;
            if !is_zero || earlier.is_some() {
                let digest = if is_zero { zero } else { Sha256::digest(&buffer).into() };
                present.insert(number);
                if is_zero {
                    zeros.insert(number);
                }
                if self.records_digests {
                    digests.push(digest);
                }
                if earlier != Some(digest) {
                    all.update(digest);
                    changed += 1;
                    if !self.known.contains(number) {
                        let next = lock(&pool).pop().unwrap_or_default();
                        let buffer = std::mem::replace(&mut buffer, next);
                        let filled = Filled { buffer, pool: Arc::clone(&pool) };
                        data = Some((Bytes::from_owner(filled), digest));
                    }
                }
            }
            if sender.blocking_send(Block { number, data }).is_err() {
                return Err(Error::cancelled());
            }
        }
        Ok(Content { present, zeros, changed, digest: all.finalize().into(), digests })
    }

    /// Fills the buffer with a whole block; the last one ends with zeros, and those behind it are zeros.
    fn read(&self, number: u64, buffer: &mut Vec<u8>) -> Result<()> {
        let size = usize::try_from(BLOCK).unwrap_or(usize::MAX);
        buffer.resize(size, 0);
        let offset = number * BLOCK;
        let left = self.total.saturating_sub(offset);
        let wanted = usize::try_from(left.min(BLOCK)).unwrap_or(size);
        let mut filled = 0;
        while filled < wanted {
            let at = offset + filled as u64;
            let read = self.context.read_disk(&self.disk, at, &mut buffer[filled..wanted])?;
            if read == 0 {
                let message = format!("the disk ends at byte {at}, not at {}", self.total);
                return Err(Error::internal(message));
            }
            filled += read;
        }
        buffer[filled..].fill(0);
        Ok(())
    }
}

/// Returns the SHA-256 of a block of zeros.
pub(crate) fn zero_digest() -> Digest {
    static ZERO: OnceLock<Digest> = OnceLock::new();
    *ZERO.get_or_init(|| {
        let mut hasher = Sha256::new();
        let part = [0; 4096];
        (0..BLOCK / part.len() as u64).for_each(|_| hasher.update(part));
        hasher.finalize().into()
    })
}

/// Whether all bytes are zero; whole vectors at a time.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(256).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::{DiskSpec, testing::MockHost};

    use super::*;

    const SIZE: usize = 512 << 10;

    /// What a disk comes to, and the length of each block that is passed on.
    fn read(bytes: &[u8], known: &[u64], parent: Manifest) -> (Content, Vec<(u64, Option<usize>)>) {
        let host = Arc::new(MockHost::new().with_disk(bytes.to_vec()));
        let context = host.context();
        let disk = context.make_disk(&DiskSpec::default()).unwrap();
        let mut blocks = Blocks::default();
        known.iter().for_each(|block| _ = blocks.insert(*block));
        let total = bytes.len() as u64;
        let reader = Reader {
            context,
            disk,
            total,
            known: blocks,
            parent: Arc::new(parent),
            records_digests: true,
        };
        let (sender, mut receiver) = mpsc::channel(16);
        let content = reader.run(&sender).unwrap();
        drop(sender);
        let mut passed = Vec::new();
        while let Some(block) = receiver.blocking_recv() {
            passed.push((block.number, block.data.map(|(data, _)| data.len())));
        }
        (content, passed)
    }

    /// The digests of blocks of a disk.
    fn digests(bytes: &[u8], blocks: &[usize]) -> Vec<Digest> {
        let mut whole = bytes.to_vec();
        whole.resize(bytes.len().next_multiple_of(SIZE).max(6 * SIZE), 0);
        let digest =
            |block: &usize| Sha256::digest(&whole[block * SIZE..(block + 1) * SIZE]).into();
        blocks.iter().map(digest).collect()
    }

    fn text(blocks: &Blocks) -> String {
        serde_json::to_string(blocks).unwrap()
    }

    #[test]
    fn blocks_of_zeros_and_known_ones_are_not_passed_on_and_all_count() {
        let mut bytes = vec![0; 4 * SIZE + 3];
        (bytes[0], bytes[3 * SIZE], bytes[4 * SIZE + 2]) = (1, 2, 3);
        let (content, passed) = read(&bytes, &[3], Manifest::default());
        assert_eq!(passed, [(0, Some(SIZE)), (1, None), (2, None), (3, None), (4, Some(SIZE))]);
        assert_eq!(content.digests, digests(&bytes, &[0, 3, 4]));
        assert_eq!(content.digest, <Digest>::from(Sha256::digest(content.digests.concat())));
        assert_eq!((text(&content.present), content.changed), ("[[0,1],[3,5]]".to_owned(), 3));
        assert_eq!(text(&content.zeros), "[]");
    }

    #[test]
    fn only_blocks_that_the_parent_does_not_have_are_passed_on() {
        let mut bytes = vec![0; 4 * SIZE];
        (bytes[0], bytes[SIZE], bytes[3 * SIZE]) = (1, 2, 3);
        // The parent has block 0 as it is, others in 1 and 2, and data behind the disk.
        let mut parent = Manifest::default();
        [0, 1, 2, 5].iter().for_each(|block| _ = parent.blocks.insert(*block));
        parent.digests = vec![digests(&bytes, &[0])[0], [1; 32], [2; 32], [5; 32]];
        let earlier = Arc::new(parent.clone());
        let (content, passed) = read(&bytes, &[], parent);
        let sent: Vec<u64> =
            passed.iter().filter(|(_, data)| data.is_some()).map(|(block, _)| *block).collect();
        assert_eq!((passed.len(), &*sent), (6, &[1, 2, 3, 5][..]));
        assert_eq!(text(&content.present), "[[0,4],[5,6]]");
        assert_eq!(text(&content.zeros), "[[2,3],[5,6]]");
        assert_eq!(content.digests, digests(&bytes, &[0, 1, 2, 3, 5]));
        assert_eq!(content.changed, 4);
        let sent = digests(&bytes, &[1, 2, 3, 5]).concat();
        assert_eq!(content.digest, <Digest>::from(Sha256::digest(sent)));
        assert_eq!(digests(&bytes, &[2]), [zero_digest()]);
        let host = Arc::new(MockHost::new().with_disk(bytes));
        let context = host.context();
        let disk = context.make_disk(&DiskSpec::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let compared = runtime.block_on(sample(&context, &disk, &earlier)).unwrap();
        assert_eq!(compared, (4, 1));
    }
}
