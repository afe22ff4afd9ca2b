//! Sends the blocks of the disk: one thread reads, many blocks are in flight. A block counts as sent when that is on disk,
//! so that a killed upload sends only the blocks in flight again.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use build_image_plugin_api::{
    Context, Disk, Error, ErrorKind, Result,
    retry::{Backoff, Failure, Policy, retry},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

use crate::{
    blocks::{BLOCK, Blocks},
    config::Config,
    delta::Manifest,
    ebs::EbsDirect,
    limiter::Limiter,
    reader::{Block, Content, Reader},
    state::BLOCKS_STATE,
};

/// Attempts of a block: storms of throttling pass.
const POLICY: Policy = Policy::new(
    9,
    Duration::from_secs(300),
    Backoff::new(Duration::from_millis(200), Duration::from_secs(20)),
);
/// Longest time after which arrived blocks are recorded.
const RECORD_AFTER: Duration = Duration::from_millis(250);
/// Interval between two progress reports.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// Blocks that are read ahead of the network.
const AHEAD: usize = 2;
/// The number of records of an upload, at most; for small disks, half of the blocks in flight wait for one.
const RECORDS: u64 = 2000;

/// What the service has, as the checkpoint stores it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Recorded {
    /// Token of the snapshot.
    pub(crate) token: String,
    /// Blocks that arrived, and blocks of zeros, which need not.
    pub(crate) done: Blocks,
}

/// The upload of one disk into one snapshot.
pub(crate) struct Transfer<'a> {
    context: &'a Context,
    ebs: &'a EbsDirect,
    disk: &'a Disk,
    snapshot: &'a str,
    recorder: Recorder,
    limiter: Limiter,
    window: usize,
    /// Bytes of the disk that are done, and of it all.
    done: AtomicU64,
    total: u64,
    reported: Mutex<Instant>,
    /// Bytes sent, repeated ones included.
    sent: AtomicU64,
    /// What the parent of the snapshot has.
    parent: Arc<Manifest>,
    /// Whether the digests of all blocks are wanted.
    records_digests: bool,
}

/// Records blocks in groups.
struct Recorder {
    context: Context,
    /// What is to be recorded; the number of blocks in it that are not; a counter of all.
    state: Mutex<(Recorded, u64, u64)>,
    /// Blocks that make a record worth its while.
    group: u64,
    full: Notify,
    /// The counter at the last record; one caller records, the others wait.
    recorded: tokio::sync::Mutex<u64>,
}

/// Locks a mutex; what a panic left is used as it is.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// Adds a block without recording it.
    fn note(&self, number: u64) {
        lock(&self.state).0.done.insert(number);
    }

    /// Adds a block, and returns when it is on disk.
    async fn record(&self, number: u64) -> Result<()> {
        let ticket = {
            let mut state = lock(&self.state);
            state.0.done.insert(number);
            state.1 += 1;
            state.2 += 1;
            if state.1 >= self.group {
                self.full.notify_one();
            }
            state.2
        };
        let mut recorded = self.recorded.lock().await;
        if *recorded >= ticket {
            return Ok(());
        }
        let _ = tokio::time::timeout(RECORD_AFTER, self.full.notified()).await;
        *recorded = self.save().await?;
        Ok(())
    }

    async fn save(&self) -> Result<u64> {
        let (document, counter) = {
            let mut state = lock(&self.state);
            state.1 = 0;
            (state.0.clone(), state.2)
        };
        let context = self.context.clone();
        let saved = tokio::task::spawn_blocking(move || context.save(BLOCKS_STATE, &document));
        joined(saved).await?;
        Ok(counter)
    }
}

impl<'a> Transfer<'a> {
    /// Prepares the upload of a disk into a snapshot that has `recorded`.
    pub(crate) fn new(
        context: &'a Context,
        ebs: &'a EbsDirect,
        disk: &'a Disk,
        snapshot: &'a str,
        recorded: Recorded,
        parent: Arc<Manifest>,
        config: &Config,
    ) -> Self {
        let concurrency = config.concurrency;
        let total = disk.length.unwrap_or(disk.virtual_size);
        // Blocks in flight, and blocks that arrived and wait for a record, share the window.
        let half = concurrency / 2;
        let group = (total.div_ceil(BLOCK) / RECORDS).max(half as u64);
        let recorder = Recorder {
            context: context.clone(),
            state: Mutex::new((recorded, 0, 0)),
            group,
            full: Notify::new(),
            recorded: tokio::sync::Mutex::default(),
        };
        Self {
            context,
            ebs,
            disk,
            snapshot,
            recorder,
            limiter: Limiter::new(concurrency),
            window: concurrency - half + usize::try_from(group).unwrap_or(half),
            done: AtomicU64::new(0),
            total,
            reported: Mutex::new(Instant::now()),
            sent: AtomicU64::new(0),
            parent,
            records_digests: config.delta.is_on,
        }
    }

    /// Returns the bytes that were sent, repeated ones included.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends every block that the service does not have.
    ///
    /// # Errors
    /// Refusals, broken connections after several attempts, a disk that cannot be read.
    pub(crate) async fn run(&self) -> Result<Content, Failure> {
        let (sender, receiver) = mpsc::channel::<Block>(AHEAD);
        let reader = Reader {
            context: self.context.clone(),
            disk: self.disk.clone(),
            total: self.total,
            known: lock(&self.recorder.state).0.done.clone(),
            parent: Arc::clone(&self.parent),
            records_digests: self.records_digests,
        };
        let thread = tokio::task::spawn_blocking(move || reader.run(&sender));
        let blocks =
            stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
        let sent = blocks
            .map(|block| self.block(block))
            .buffer_unordered(self.window)
            .try_for_each(async |()| Ok(()))
            .await;
        if let Err(failure) = sent {
            // What arrived is worth recording, whatever failed.
            let _ = self.recorder.save().await;
            return Err(failure);
        }
        let content = joined(thread).await?;
        self.recorder.save().await?;
        self.context.progress_bytes(self.total, self.total);
        Ok(content)
    }

    async fn block(&self, Block { number, data }: Block) -> Result<(), Failure> {
        let Some((data, digest)) = data else {
            self.recorder.note(number);
            self.moved();
            return Ok(());
        };
        let size = data.len() as u64;
        retry(&POLICY, async || {
            let _slot = self.limiter.enter().await;
            self.sent.fetch_add(size, Ordering::Relaxed);
            let sent = self.ebs.put(self.snapshot, number, data.clone(), &digest).await;
            match &sent {
                Ok(()) => self.limiter.arrived(),
                Err(failure) if failure.error.kind == ErrorKind::Throttled => {
                    self.limiter.throttled();
                }
                Err(_) => {}
            }
            sent
        })
        .await?;
        drop(data);
        self.recorder.record(number).await?;
        self.moved();
        Ok(())
    }

    fn moved(&self) {
        let done = self.done.fetch_add(BLOCK, Ordering::Relaxed) + BLOCK;
        let mut reported = lock(&self.reported);
        if reported.elapsed() >= REPORT_EVERY {
            *reported = Instant::now();
            self.context.progress_bytes(done.min(self.total), self.total);
        }
    }
}

/// The result of a thread; a panic in it is an error.
pub(crate) async fn joined<T>(thread: tokio::task::JoinHandle<Result<T>>) -> Result<T> {
    thread.await.unwrap_or_else(|error| Err(Error::internal("a thread ended").caused_by(&error)))
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::testing::MockHost;

    use super::*;

    #[test]
    fn a_block_counts_when_it_is_recorded_and_groups_share_a_record() {
        let host = Arc::new(MockHost::new());
        let recorder = Recorder {
            context: host.context(),
            state: Mutex::default(),
            group: 8,
            full: Notify::new(),
            recorded: tokio::sync::Mutex::default(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let all = (0..8).map(|number| recorder.record(number));
            for recorded in futures_util::future::join_all(all).await {
                recorded.unwrap();
            }
        });
        let saved: Recorded = host.context().load(BLOCKS_STATE).unwrap().unwrap();
        assert_eq!(saved.done.len(), 8);
    }
}
