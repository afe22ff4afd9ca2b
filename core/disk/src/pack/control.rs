//! How a caller steers the work: threads, progress, stopping.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;

/// More threads than this gain nothing: one disk has to feed them all.
const MOST_THREADS: usize = 16;
/// Bytes of pieces that are read, compressed or waiting to be written at any time.
const MEMORY: usize = 32 << 20;

/// How far the work is, in bytes of data taken in; `total` does not change during one piece of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done.
    pub done: u64,
    /// Bytes there are to do.
    pub total: u64,
}

/// Called many times a second from the thread that does the work; `Break` ends it with
/// [`crate::Kind::Cancelled`] and nothing is left behind.
pub type Watch = Arc<dyn Fn(Progress) -> ControlFlow<()> + Send + Sync>;

/// Threads, progress and stopping. The result never depends on any of them.
#[derive(Clone)]
pub struct Control {
    threads: usize,
    watch: Watch,
}

impl Control {
    /// As many threads as there are processors, and nobody who watches.
    pub fn new() -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self { threads: threads.min(MOST_THREADS), watch: Arc::new(|_| ControlFlow::Continue(())) }
    }

    /// Sets the number of compressing threads, 1 to 16.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads.clamp(1, MOST_THREADS);
        self
    }

    /// Sets who is told about progress and may stop the work.
    #[must_use]
    pub fn with_watch(
        mut self,
        watch: impl Fn(Progress) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Self {
        self.watch = Arc::new(watch);
        self
    }

    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// How many pieces of `bytes` each may be on their way at once.
    pub(super) fn window(&self, bytes: usize) -> usize {
        (MEMORY / bytes.max(1)).clamp(self.threads + 1, self.threads * 4)
    }

    pub(super) fn report(&self, progress: Progress) -> ControlFlow<()> {
        (self.watch)(progress)
    }
}

impl Default for Control {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("threads", &self.threads).finish_non_exhaustive()
    }
}
