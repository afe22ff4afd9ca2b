//! Counts the bytes that an upload moves and reports them to the host.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;

use build_image_plugin_api::Context;
use tokio::time::Instant;

/// Interval between two progress reports to the host.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Counts bytes and reports them to the host.
pub(crate) struct Meter {
    context: Context,
    /// 0 while the total is unknown.
    total: AtomicU64,
    done: AtomicU64,
    sent: AtomicU64,
    last_report: Mutex<Instant>,
}

impl Meter {
    /// A meter for `total` bytes, if the total is known.
    pub(crate) fn new(context: &Context, total: Option<u64>) -> Arc<Self> {
        let last_report = Mutex::new(Instant::now());
        let context = context.clone();
        let total = AtomicU64::new(total.unwrap_or(0));
        Arc::new(Self {
            context,
            total,
            done: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            last_report,
        })
    }

    /// Bytes sent over the network, repeated ones included.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Adds bytes that need not be sent.
    pub(crate) fn add(&self, count: u64) {
        let done = self.done.fetch_add(count, Ordering::Relaxed) + count;
        let total = self.total.load(Ordering::Relaxed);
        let whole = total > 0 && done >= total;
        let mut last_report = self.last_report.lock().unwrap_or_else(PoisonError::into_inner);
        if last_report.elapsed() >= REPORT_EVERY || whole {
            *last_report = Instant::now();
            drop(last_report);
            self.context.progress_bytes(if whole { total } else { done }, total);
        }
    }

    /// Sets the end of the image, which is known from now on.
    pub(crate) fn ends_at(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.add(0);
    }
}

/// The count of one attempt; the counted bytes are subtracted again unless the count is kept.
pub(crate) struct Attempt {
    meter: Arc<Meter>,
    moved: Arc<AtomicU64>,
    kept: bool,
}

impl Attempt {
    /// Starts a count at zero.
    pub(crate) fn new(meter: &Arc<Meter>) -> Self {
        Self { meter: Arc::clone(meter), moved: Arc::default(), kept: false }
    }

    /// A callback that counts bytes as they are sent.
    pub(crate) fn counter(&self) -> impl Fn(u64) + Send + Sync + 'static {
        let (meter, moved) = (Arc::clone(&self.meter), Arc::clone(&self.moved));
        move |count| {
            moved.fetch_add(count, Ordering::Relaxed);
            meter.sent.fetch_add(count, Ordering::Relaxed);
            meter.add(count);
        }
    }

    /// Keeps the count: the attempt succeeded.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.kept {
            self.meter.done.fetch_sub(self.moved.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}
