//! Reads the bytes of the disk, on threads that may block, in chunks whose buffers are reused. The CRC-64 of
//! a range is computed in the same pass.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use build_image_plugin_api::{Context, Disk, Error, Result, http::Body};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum_combine};
use futures_util::stream::{AbortHandle, abortable, unfold};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    delta::{Blocks, RangeDigest},
    rate_limiter::RateLimiter,
};

/// Bytes per chunk.
const CHUNK: usize = 256 << 10;
/// Chunks read ahead of the network, per part.
const AHEAD: usize = 2;

/// Combines the CRC-64 of two adjoining ranges.
pub(crate) fn combine(first: u64, second: u64, second_length: u64) -> u64 {
    checksum_combine(CrcAlgorithm::Crc64Xz, first, second, second_length)
}

/// Pool of free buffers.
#[derive(Default)]
struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    fn take(&self) -> Vec<u8> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| vec![0; CHUNK])
    }
}

/// A filled buffer; returns to the pool when its last user drops it.
struct Chunk {
    buffer: Vec<u8>,
    filled: usize,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

/// Reads ranges of one disk.
#[derive(Clone)]
pub(crate) struct Reader {
    context: Context,
    disk: Arc<Disk>,
    pool: Arc<Pool>,
    /// Receives the digests of what is read.
    blocks: Option<Arc<Blocks>>,
}

/// Controls that a range passes on its way to the network.
pub(crate) struct BodyThrottle {
    /// The rate limit.
    pub(crate) rate_limiter: Arc<RateLimiter>,
    /// Changes as long as there is activity.
    pub(crate) alive: Arc<AtomicU64>,
    /// Called with the number of bytes that the network accepted.
    pub(crate) on_moved: Box<dyn Fn(u64) + Send + Sync>,
}

/// A range on its way to the network.
pub(crate) struct BodyStream {
    /// The body; ends early when the disk cannot be read or the stream is stopped.
    pub(crate) body: Body,
    /// Ends the body.
    pub(crate) stop: AbortHandle,
    /// The reading thread; its result is the CRC-64 of the bytes it read.
    pub(crate) thread: JoinHandle<Result<Option<u64>>>,
}

impl Reader {
    pub(crate) fn new(context: &Context, disk: &Disk) -> Self {
        let (context, disk) = (context.clone(), Arc::new(disk.clone()));
        Self { context, disk, pool: Arc::default(), blocks: None }
    }

    /// A reader that enters the digests of what it reads into a table.
    pub(crate) fn recording(mut self, blocks: &Arc<Blocks>) -> Self {
        self.blocks = Some(Arc::clone(blocks));
        self
    }

    /// The table that receives the digests of what is read.
    pub(crate) fn blocks(&self) -> Option<&Arc<Blocks>> {
        self.blocks.as_ref()
    }

    /// The host of the step that reads.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// The first N bytes become readable only when the image is complete.
    pub(crate) fn deferred_prefix_len(&self) -> u64 {
        self.disk.deferred_prefix_len
    }

    /// Reads a range chunk by chunk and passes each chunk to `each`, which returns false to stop. Returns the
    /// range's CRC-64, or `None` when it was stopped.
    fn read(
        &self,
        offset: u64,
        length: u64,
        mut each: impl FnMut(Bytes) -> bool,
    ) -> Result<Option<u64>> {
        let mut digest = RangeDigest::new(self.blocks.as_deref(), offset, length);
        let mut done = 0;
        while done < length {
            self.context.check_cancelled()?;
            let wanted = usize::try_from(length - done).unwrap_or(CHUNK).min(CHUNK);
            let mut chunk =
                Chunk { buffer: self.pool.take(), filled: wanted, pool: Arc::clone(&self.pool) };
            let buffer = &mut chunk.buffer[..wanted];
            let read = self.context.read_disk(&self.disk, offset + done, buffer)?;
            if read == 0 {
                let message = format!("the disk image ends at byte {}", offset + done);
                return Err(Error::internal(message).with_context("length", self.disk.length_limit));
            }
            chunk.filled = read;
            digest.update(chunk.as_ref());
            done += read as u64;
            if !each(Bytes::from_owner(chunk)) {
                return Ok(None);
            }
        }
        Ok(Some(digest.finalize()))
    }

    /// Whether the image has a byte at this offset; waits until that can be determined.
    fn has(&self, offset: u64) -> Result<bool> {
        Ok(self.context.read_disk(&self.disk, offset, &mut [0])? > 0)
    }

    fn count(&self, offset: u64, length: u64) -> Result<u64> {
        let known = length == 0 || self.disk.length.is_some();
        let there = if known || self.has(offset + length - 1)? {
            length
        } else {
            self.rest(offset, length - 1)?
        };
        // The deferred prefix becomes readable as a whole, when everything else is complete.
        if there > 0 && offset < self.disk.deferred_prefix_len && !self.has(offset)? {
            return Ok(0);
        }
        Ok(there)
    }

    /// Number of bytes from `offset` on, of an image that ends within the next `missing` bytes; uses binary
    /// search.
    fn rest(&self, offset: u64, mut missing: u64) -> Result<u64> {
        let mut there = 0;
        while there < missing {
            let middle = there + (missing - there) / 2;
            if self.has(offset + middle)? {
                there = middle + 1;
            } else {
                missing = middle;
            }
        }
        Ok(there)
    }

    /// How many bytes the image has of a range within its planned length. Waits until all of them can be
    /// read; a finished image is not read.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub(crate) async fn available(&self, offset: u64, length: u64) -> Result<u64> {
        if self.disk.length.is_some() && offset >= self.disk.deferred_prefix_len {
            return Ok(length);
        }
        let reader = self.clone();
        joined(tokio::task::spawn_blocking(move || reader.count(offset, length))).await
    }

    /// Whether the image has exactly this many bytes; waits until that can be determined.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub(crate) async fn ends_at(&self, length: u64) -> Result<bool> {
        match self.disk.length {
            Some(known) => Ok(known == length),
            None => Ok(self.available(0, length + 1).await? == length),
        }
    }

    /// CRC-64 of a range. A range whose digests are known is not read again.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub(crate) async fn checksum(&self, offset: u64, length: u64) -> Result<u64> {
        if let Some(known) = self.blocks.as_ref().and_then(|blocks| blocks.crc(offset, length)) {
            return Ok(known);
        }
        let reader = self.clone();
        let thread = tokio::task::spawn_blocking(move || reader.read(offset, length, |_| true));
        joined(thread).await?.ok_or_else(|| Error::internal("a checksum was stopped"))
    }

    /// Starts reading a range into a request body that passes through the throttle.
    pub(crate) fn flow(&self, offset: u64, length: u64, valve: BodyThrottle) -> BodyStream {
        let (sender, receiver) = mpsc::channel::<Bytes>(AHEAD);
        let reader = self.clone();
        let thread = tokio::task::spawn_blocking(move || {
            reader.read(offset, length, |chunk| sender.blocking_send(chunk).is_ok())
        });
        let chunks = unfold((receiver, valve), async |(mut receiver, valve)| {
            let chunk = receiver.recv().await?;
            let count = chunk.len() as u64;
            valve.rate_limiter.pass(count, &valve.alive).await;
            valve.alive.fetch_add(count, Ordering::Relaxed);
            (valve.on_moved)(count);
            Some((Ok(chunk), (receiver, valve)))
        });
        let (chunks, stop) = abortable(chunks);
        BodyStream { body: Body::stream(chunks, Some(length)), stop, thread }
    }
}

/// The result of a reading thread; a panic in it is an error.
pub(crate) async fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread
        .await
        .unwrap_or_else(|error| Err(Error::internal("a reading thread ended").caused_by(&error)))
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::{DiskSpec, testing::MockHost};

    use super::*;

    fn reader(content: Vec<u8>) -> Reader {
        let host = Arc::new(MockHost::new().with_disk(content));
        let context = host.context();
        let disk = context.make_disk(&DiskSpec::default()).unwrap();
        Reader::new(&context, &disk)
    }

    #[test]
    fn the_checksum_is_the_one_the_service_uses() {
        let reader = reader(b"123456789".to_vec());
        let whole = reader.read(0, 9, |_| true).unwrap().unwrap();
        assert_eq!(whole, 11_051_210_869_376_104_954);
        let first = reader.read(0, 4, |_| true).unwrap().unwrap();
        let second = reader.read(4, 5, |_| true).unwrap().unwrap();
        assert_eq!(combine(first, second, 5), whole);
    }

    #[test]
    fn buffers_are_used_again() {
        let reader = reader(vec![7; 4 * CHUNK + 1]);
        let mut seen = 0;
        let crc = reader.read(0, 4 * CHUNK as u64 + 1, |chunk| {
            seen += chunk.len();
            true
        });
        assert!(crc.unwrap().is_some());
        assert_eq!(seen, 4 * CHUNK + 1);
        assert_eq!(reader.pool.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_disk_that_ends_early_is_an_error() {
        let error = reader(vec![0; 10]).read(0, 11, |_| true).unwrap_err();
        assert!(error.message.contains("ends at byte 10"), "{error}");
    }
}
