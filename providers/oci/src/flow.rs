//! Reads a layer from start to end on a thread that may block, compresses it, and computes its SHA-256. At most a few
//! blocks are in memory.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use build_image_plugin_api::{Context, Error, Result};
use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use ruzstd::encoding::{CompressionLevel, FrameCompressor};
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{config::LayerCompression, source::Source};

/// Bytes per block.
pub(crate) const BLOCK: usize = 256 << 10;
/// Blocks that are read ahead of the network.
const AHEAD: usize = 32;
/// How long the end of the reading thread is awaited.
const JOIN: Duration = Duration::from_secs(2);

/// A SHA-256 over a stream whose parts may arrive several times, but never with a gap.
#[derive(Clone, Default)]
pub(crate) struct Running {
    sha: Sha256,
    position: u64,
}

impl Running {
    fn feed(&mut self, at: u64, bytes: &[u8]) {
        let seen = self.position.saturating_sub(at);
        let new = usize::try_from(seen).ok().and_then(|seen| bytes.get(seen..)).unwrap_or_default();
        self.sha.update(new);
        self.position += new.len() as u64;
    }

    fn digest(&self) -> String {
        digest_text(&self.sha.clone().finalize())
    }
}

/// What was computed of a layer; shared by the attempts to send it.
#[derive(Clone, Default)]
pub(crate) struct Hashes {
    /// Of what is sent.
    sent: Running,
    /// Of the content before its compression.
    plain: Running,
}

/// Returns the digest of bytes in memory.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    digest_text(&Sha256::digest(bytes))
}

/// Writes a digest as registries do: `sha256:` and hexadecimal digits (OCI image specification 1.1, "Digests").
fn digest_text(hash: &[u8]) -> String {
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// A layer that was read completely.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Layer {
    /// Digest of what is sent.
    pub(crate) digest: String,
    /// Its bytes.
    pub(crate) size: u64,
    /// Digest of the content before its compression.
    pub(crate) diff_id: String,
}

/// What is read, and how.
#[derive(Clone)]
pub(crate) struct Reading {
    pub(crate) context: Context,
    pub(crate) source: Source,
    pub(crate) compression: LayerCompression,
    pub(crate) hashes: Arc<Mutex<Hashes>>,
}

/// A layer on its way to the network.
pub(crate) struct Flow {
    receiver: mpsc::Receiver<Bytes>,
    /// The part of a block that belongs to the next chunk.
    rest: Bytes,
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<Result<Option<Layer>>>,
}

impl Flow {
    /// Starts reading what follows `offset`. What precedes it is read too, if it was not hashed yet.
    pub(crate) fn start(reading: &Reading, offset: u64) -> Self {
        let (sender, receiver) = mpsc::channel::<Bytes>(AHEAD);
        let stopped = Arc::new(AtomicBool::new(false));
        let (reading, flag) = (reading.clone(), Arc::clone(&stopped));
        let thread = tokio::task::spawn_blocking(move || {
            let out = Out { offset, position: 0, sender: Some(sender), stopped: flag };
            reading.run(out)
        });
        Self { receiver, rest: Bytes::new(), stopped, thread }
    }

    /// Returns the next block, at most `most` bytes of it; `None` at the end, or after an error.
    pub(crate) async fn block(&mut self, most: u64) -> Option<Bytes> {
        if self.rest.is_empty() {
            self.rest = self.receiver.recv().await?;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.rest.len());
        Some(self.rest.split_to(most))
    }

    /// Returns the next blocks, together `size` bytes; fewer at the end, or after an error.
    pub(crate) async fn chunk(&mut self, size: u64) -> Vec<Bytes> {
        let (mut blocks, mut left) = (Vec::new(), size);
        while left > 0 {
            let Some(block) = self.block(left).await else { break };
            left -= block.len() as u64;
            blocks.push(block);
        }
        blocks
    }

    /// Ends the reading thread. Returns what was read, `None` when that is not the whole layer.
    ///
    /// # Errors
    /// When the disk could not be read; [`Error::cancelled`].
    pub(crate) async fn end(self) -> Result<Option<Layer>> {
        self.stopped.store(true, Ordering::Relaxed);
        drop(self.receiver);
        match tokio::time::timeout(JOIN, self.thread).await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                Err(Error::internal("the thread that reads the disk ended").caused_by(&error))
            }
            Err(_) => Ok(None),
        }
    }
}

/// Reads a layer once without sending it.
///
/// # Errors
/// When the disk cannot be read; [`Error::cancelled`].
pub(crate) async fn measure(reading: &Reading) -> Result<Layer> {
    let reading = reading.clone();
    let task = tokio::task::spawn_blocking(move || {
        let stopped = Arc::new(AtomicBool::new(false));
        reading.run(Out { offset: u64::MAX, position: 0, sender: None, stopped })
    });
    let read = task.await.map_err(|error| {
        Error::internal("the thread that reads the disk ended").caused_by(&error)
    })?;
    read?.ok_or_else(|| Error::internal("the disk was not read to its end"))
}

/// Where the bytes of a layer go.
struct Out {
    /// Bytes before it are hashed only.
    offset: u64,
    position: u64,
    sender: Option<mpsc::Sender<Bytes>>,
    stopped: Arc<AtomicBool>,
}

impl Out {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn accept(&mut self, hashes: &Mutex<Hashes>, bytes: &Bytes) {
        let at = self.position;
        hashes.lock().unwrap_or_else(PoisonError::into_inner).sent.feed(at, bytes);
        self.position += bytes.len() as u64;
        let before = usize::try_from(self.offset.saturating_sub(at)).unwrap_or(usize::MAX);
        if before < bytes.len()
            && let Some(sender) = &self.sender
            && sender.blocking_send(bytes.slice(before..)).is_err()
        {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }
}

impl Reading {
    /// Reads the layer into `out`. Returns `None` when that was stopped.
    fn run(&self, mut out: Out) -> Result<Option<Layer>> {
        if self.compression == LayerCompression::None {
            self.run_plain(&mut out)?;
        } else {
            self.run_compressed(&mut out)?;
        }
        self.context.check_cancelled()?;
        if out.is_stopped() && out.sender.as_ref().is_some_and(mpsc::Sender::is_closed) {
            return Ok(None);
        }
        let hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = hashes.sent.digest();
        let diff_id = match self.compression {
            LayerCompression::None => digest.clone(),
            _ => hashes.plain.digest(),
        };
        Ok(Some(Layer { digest, size: out.position, diff_id }))
    }

    fn run_plain(&self, out: &mut Out) -> Result<()> {
        let hashed = self.hashes.lock().unwrap_or_else(PoisonError::into_inner).sent.position;
        out.position = hashed.min(out.offset);
        while !out.is_stopped() {
            self.context.check_cancelled()?;
            let mut block = vec![0; BLOCK];
            let count = self.source.read_at(out.position, &mut block)?;
            block.truncate(count);
            if count > 0 {
                out.accept(&self.hashes, &block.into());
            }
            if count < BLOCK {
                break;
            }
        }
        Ok(())
    }

    /// Compressors are run from the start: their state cannot be stored. They get no errors, with which they could not
    /// cope, but an early end.
    fn run_compressed(&self, out: &mut Out) -> Result<()> {
        let mut input =
            Input { reading: self, position: 0, stopped: Arc::clone(&out.stopped), failure: None };
        let mut output = Output { hashes: &self.hashes, out, block: Vec::with_capacity(BLOCK) };
        match self.compression {
            LayerCompression::Zstd => {
                let mut compressor = FrameCompressor::new(CompressionLevel::Fastest);
                compressor.set_source(&mut input);
                compressor.set_drain(&mut output);
                compressor.compress();
            }
            _ => {
                // Without a date, so that equal disks are equal layers.
                let mut encoder = GzBuilder::new().mtime(0).write(&mut output, Compression::fast());
                let copied = io::copy(&mut input, &mut encoder).and_then(|_| encoder.finish());
                copied.map_err(|error| {
                    Error::internal("cannot compress the layer").caused_by(&error)
                })?;
            }
        }
        output.pass();
        input.failure.map_or(Ok(()), Err)
    }
}

/// The content of a layer for a compressor.
struct Input<'a> {
    reading: &'a Reading,
    position: u64,
    stopped: Arc<AtomicBool>,
    failure: Option<Error>,
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_some() || self.stopped.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let Reading { context, source, hashes, .. } = self.reading;
        let read = context.check_cancelled().and_then(|()| source.read_at(self.position, buffer));
        let count = read.unwrap_or_else(|error| {
            self.failure = Some(error);
            0
        });
        let bytes = buffer.get(..count).unwrap_or_default();
        hashes.lock().unwrap_or_else(PoisonError::into_inner).plain.feed(self.position, bytes);
        self.position += count as u64;
        Ok(count)
    }
}

/// What a compressor writes, in blocks.
struct Output<'a> {
    hashes: &'a Mutex<Hashes>,
    out: &'a mut Out,
    block: Vec<u8>,
}

impl Output<'_> {
    fn pass(&mut self) {
        if !self.block.is_empty() {
            let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
            self.out.accept(self.hashes, &block.into());
        }
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.block.extend_from_slice(bytes);
        if self.block.len() >= BLOCK {
            self.pass();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::{DiskSpec, testing::MockHost};

    use super::*;
    use crate::config::Kind;

    fn reading(content: &[u8], compression: LayerCompression) -> Reading {
        let host = Arc::new(MockHost::new().with_disk(content.to_vec()));
        let context = host.context();
        let disk = context.make_disk(&DiskSpec::default()).unwrap();
        let length = Some(content.len() as u64);
        let source = Source::new(&context, &disk, Kind::Artifact, length).unwrap();
        Reading { context, source, compression, hashes: Arc::default() }
    }

    fn content(length: usize) -> Vec<u8> {
        let mut content: Vec<u8> = (0..=250).cycle().take(length).collect();
        content.get_mut(BLOCK..2 * BLOCK).unwrap_or_default().fill(0);
        content
    }

    fn wait<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
    }

    async fn read(reading: &Reading, offset: u64, chunk: u64) -> (Vec<u8>, Option<Layer>) {
        let mut flow = Flow::start(reading, offset);
        let mut found = Vec::new();
        loop {
            let blocks = flow.chunk(chunk).await;
            let count: usize = blocks.iter().map(Bytes::len).sum();
            found.extend(blocks.concat());
            if (count as u64) < chunk {
                return (found, flow.end().await.unwrap());
            }
        }
    }

    #[test]
    fn every_length_and_offset_arrives_whole_and_hashed() {
        wait(async {
            for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5] {
                let content = content(length);
                for offset in [0, length / 2, length] {
                    let reading = reading(&content, LayerCompression::None);
                    let (found, layer) = read(&reading, offset as u64, 1000).await;
                    assert!(found == content[offset..], "{length} from {offset}");
                    let digest = digest_of(&content);
                    let expected =
                        Layer { digest: digest.clone(), size: length as u64, diff_id: digest };
                    assert_eq!(layer, Some(expected.clone()));
                    // Another attempt, from an earlier place, finds the same.
                    assert_eq!(read(&reading, offset as u64 / 3, 5 << 20).await.1, Some(expected));
                }
            }
        });
    }

    #[test]
    fn a_compressed_layer_is_the_same_from_every_offset_and_decompresses_to_the_disk() {
        wait(async {
            let content = content(5 * BLOCK + 3);
            for compression in [LayerCompression::Gzip, LayerCompression::Zstd] {
                let reading = reading(&content, compression);
                let layer = measure(&reading).await.unwrap();
                let (whole, read_layer) = read(&reading, 0, 999).await;
                assert_eq!(read_layer.as_ref(), Some(&layer));
                assert_eq!((layer.digest, layer.size), (digest_of(&whole), whole.len() as u64));
                assert_eq!(layer.diff_id, digest_of(&content));
                let (rest, _) = read(&reading, whole.len() as u64 / 2, 1 << 20).await;
                assert!(rest == whole[whole.len() / 2..]);
                let mut plain = Vec::new();
                match compression {
                    LayerCompression::Gzip => {
                        flate2::read::GzDecoder::new(&whole[..]).read_to_end(&mut plain).unwrap()
                    }
                    _ => ruzstd::decoding::StreamingDecoder::new(&whole[..])
                        .unwrap()
                        .read_to_end(&mut plain)
                        .unwrap(),
                };
                assert!(plain == content, "{compression:?}");
            }
        });
    }

    #[test]
    fn a_disk_that_cannot_be_read_is_an_error_with_every_compression() {
        wait(async {
            for compression in
                [LayerCompression::None, LayerCompression::Gzip, LayerCompression::Zstd]
            {
                let mut reading = reading(&content(100), compression);
                let disk = reading.context.make_disk(&DiskSpec::default()).unwrap();
                let longer =
                    Source::new(&reading.context, &disk, Kind::Artifact, Some(200)).unwrap();
                reading.source = longer;
                let error = measure(&reading).await.unwrap_err();
                assert!(error.message.contains("ends at byte 100"), "{error}");
                let mut flow = Flow::start(&reading, 0);
                assert!(flow.chunk(1000).await.is_empty() || compression != LayerCompression::None);
                assert!(flow.end().await.is_err(), "{compression:?}");
            }
        });
    }
}
