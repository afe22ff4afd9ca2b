//! Counts the bytes of request bodies, for progress, for the result, and to notice a connection on which nothing moves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use build_image_plugin_api::{
    Context,
    http::{self, Body},
};
use bytes::Bytes;
use futures_util::stream::iter;

/// The bytes of a layer that the network has accepted.
pub(crate) struct Meter {
    context: Context,
    /// Bytes of the layer; 0 while unknown.
    length: u64,
    /// The largest number of bytes that was shown: progress does not go backwards.
    shown: AtomicU64,
    /// Bytes that all attempts have sent.
    pub(crate) total: AtomicU64,
}

impl Meter {
    /// Counts the bytes of a layer.
    pub(crate) fn new(context: &Context, length: u64) -> Self {
        let (shown, total) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { context: context.clone(), length, shown, total }
    }

    /// Shows where an attempt begins.
    pub(crate) fn begin(&self, offset: u64) {
        self.show(offset);
    }

    /// Counts bytes, after which `position` bytes of the layer are sent.
    pub(crate) fn moved(&self, position: u64, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
        self.show(position);
    }

    /// Returns when nothing has moved for `limit`.
    pub(crate) async fn stalled(&self, limit: Duration) -> Duration {
        http::stalled(|| Some((self.total.load(Ordering::Relaxed), limit))).await
    }

    fn show(&self, position: u64) {
        let before = self.shown.fetch_max(position, Ordering::Relaxed);
        let done = before.max(position);
        let length = if self.length == 0 { 0 } else { self.length.max(done) };
        self.context.progress_bytes(done, length);
    }
}

/// Returns a body of blocks that begin at `offset` of the layer.
pub(crate) fn blocks_body(blocks: Vec<Bytes>, meter: &Arc<Meter>, offset: u64) -> Body {
    let length = blocks.iter().map(|block| block.len() as u64).sum();
    let meter = Arc::clone(meter);
    let mut position = offset;
    let counted = blocks.into_iter().map(move |block| {
        position += block.len() as u64;
        meter.moved(position, block.len() as u64);
        Ok(block)
    });
    Body::stream(iter(counted), Some(length))
}
