//! Controls the work for the caller: threads, progress, cancelling.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;

/// Maximum number of threads; more do not help, because one disk has to supply all of them.
const MOST_THREADS: usize = 16;
/// Memory in bytes for pieces that are being read, compressed, or waiting to be written.
const MEMORY: usize = 32 << 20;

/// Progress in bytes of input; `total` does not change during one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are done.
    pub done: u64,
    /// Bytes in total.
    pub total: u64,
}

/// Called many times a second from the thread that does the work; `Break` ends the work with
/// [`crate::Kind::Cancelled`] and no file remains.
pub type Watch = Arc<dyn Fn(Progress) -> ControlFlow<()> + Send + Sync>;

/// Threads, progress, and cancelling. The result never depends on any of them.
#[derive(Clone)]
pub struct Control {
    threads: usize,
    watch: Watch,
}

impl Control {
    /// Uses as many threads as processors, and no progress callback.
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

    /// Sets the callback that receives the progress and may stop the work.
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

    /// Returns how many pieces of `bytes` bytes each may be in progress at once.
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
