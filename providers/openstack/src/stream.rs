//! Reads the disk from start to end into a request body, on a thread that may block, and computes its SHA-512. At most
//! a few blocks are in memory.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use build_image_plugin_api::{
    Context, Disk, Error, Result,
    http::{self, Body},
};
use bytes::Bytes;
use futures_util::stream::unfold;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha512};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::digest::hexadecimal;

/// Bytes per block.
const BLOCK: usize = 256 << 10;
/// Blocks that are read ahead of the network.
const AHEAD: usize = 8;
/// How long the end of the reading thread is awaited.
const JOIN: Duration = Duration::from_secs(2);

/// What was sent completely.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// Hexadecimal digits.
    pub(crate) sha512: String,
    /// Length of the image.
    pub(crate) bytes: u64,
}

/// State of a transfer.
#[derive(Default)]
struct State {
    /// Bytes that the network has accepted.
    moved: AtomicU64,
    /// Whether the network waits for the disk.
    reading: AtomicBool,
    /// Whether the last byte was handed to the network.
    ended: AtomicBool,
    /// Whether the thread must stop.
    stopped: AtomicBool,
}

/// The disk on its way to the network.
pub(crate) struct Flow {
    state: Arc<State>,
    thread: JoinHandle<Result<Option<Sent>>>,
}

impl Flow {
    /// Starts reading. `on_moved` is called with the number of bytes that the network has accepted so far. A disk that
    /// cannot be read ends the body with an error, so that the server does not take it for complete.
    pub(crate) fn start(
        context: &Context,
        disk: &Disk,
        on_moved: impl Fn(u64) + Send + Sync + 'static,
    ) -> (Self, Body) {
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
        let state = Arc::new(State::default());
        let (context, disk, shared) = (context.clone(), disk.clone(), Arc::clone(&state));
        let length = disk.length;
        let thread = tokio::task::spawn_blocking(move || {
            let read =
                read(&context, &disk, &shared, |block| sender.blocking_send(Ok(block)).is_ok());
            if !matches!(read, Ok(Some(_))) {
                let _ =
                    sender.blocking_send(Err(io::Error::other("the disk was not read to its end")));
            }
            read
        });
        let blocks = unfold(
            (receiver, Arc::clone(&state), on_moved),
            async |(mut receiver, state, on_moved)| {
                state.reading.store(true, Ordering::Relaxed);
                let block = receiver.recv().await;
                state.reading.store(false, Ordering::Relaxed);
                let Some(block) = block else {
                    state.ended.store(true, Ordering::Relaxed);
                    return None;
                };
                if let Ok(block) = &block {
                    let count = block.len() as u64;
                    on_moved(state.moved.fetch_add(count, Ordering::Relaxed) + count);
                }
                Some((block, (receiver, state, on_moved)))
            },
        );
        let body = Body::stream(blocks, length);
        (Self { state, thread }, body)
    }

    /// Returns the number of bytes that the network has accepted.
    pub(crate) fn moved(&self) -> u64 {
        self.state.moved.load(Ordering::Relaxed)
    }

    /// Returns when no byte has moved for `stall`, or the answer has not arrived `answer` after the last byte.
    pub(crate) async fn stalled(&self, stall: Duration, answer: Duration) -> Duration {
        http::stalled(|| {
            if self.state.ended.load(Ordering::Relaxed) {
                return Some((self.moved(), answer));
            }
            (!self.state.reading.load(Ordering::Relaxed)).then(|| (self.moved(), stall))
        })
        .await
    }

    /// Ends the reading thread. Returns what it has sent, `None` when that is not the whole disk.
    ///
    /// # Errors
    /// When the disk could not be read.
    pub(crate) async fn end(self) -> Result<Option<Sent>> {
        self.state.stopped.store(true, Ordering::Relaxed);
        match tokio::time::timeout(JOIN, self.thread).await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                Err(Error::internal("the thread that reads the disk ended").caused_by(&error))
            }
            Err(_) => Ok(None),
        }
    }
}

fn read(
    context: &Context,
    disk: &Disk,
    state: &State,
    mut each: impl FnMut(Bytes) -> bool,
) -> Result<Option<Sent>> {
    let (mut digest, mut bytes) = (Sha512::new(), 0);
    loop {
        context.check_cancelled()?;
        if state.stopped.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut block = vec![0; BLOCK];
        let count = context.read_disk(disk, bytes, &mut block)?;
        block.truncate(count);
        digest.update(&block);
        bytes += count as u64;
        if count > 0 && !each(block.into()) {
            return Ok(None);
        }
        if count < BLOCK {
            break;
        }
    }
    if let Some(length) = disk.length.filter(|length| *length != bytes) {
        return Err(Error::internal(format!("the disk image ends at byte {bytes}"))
            .with_context("length", length));
    }
    Ok(Some(Sent { sha512: hexadecimal(&digest.finalize()), bytes }))
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::{DiskSpec, testing::MockHost};

    use super::*;

    fn collected(content: Vec<u8>, wrong: bool) -> (Result<Option<Sent>>, Vec<u8>) {
        let host = Arc::new(MockHost::new().with_disk(content));
        let context = host.context();
        let mut disk = context.make_disk(&DiskSpec::default()).unwrap();
        if wrong {
            disk.length = Some(1);
        }
        let mut found = Vec::new();
        let read = read(&context, &disk, &State::default(), |block| {
            found.extend_from_slice(&block);
            true
        });
        (read, found)
    }

    #[test]
    fn every_length_arrives_whole_and_hashed() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let content: Vec<u8> = (0..=250).cycle().take(length).collect();
            let (read, found) = collected(content.clone(), false);
            let sent = read.unwrap().unwrap();
            assert_eq!((sent.bytes, found == content), (length as u64, true));
            assert_eq!(sent.sha512, hexadecimal(&Sha512::digest(&content)));
        }
    }

    #[test]
    fn a_disk_of_another_length_is_an_error() {
        let error = collected(vec![0; 9], true).0.unwrap_err();
        assert!(error.message.contains("ends at byte 9"), "{error}");
    }
}
