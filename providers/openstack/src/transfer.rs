//! Sends the disk once: to the image itself, or to its staging area.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use build_image_plugin_api::{
    Context, Disk, Error, ErrorKind,
    http::Outgoing,
    retry::{Backoff, Failure},
};
use reqwest::Method;

use crate::{
    cloud::Cloud,
    config::Config,
    http::HINTS,
    stream::{Flow, Sent},
};

/// Sends the disk of a build.
pub(crate) struct Transfer<'a> {
    pub(crate) context: &'a Context,
    pub(crate) cloud: &'a Cloud,
    pub(crate) config: &'a Config,
    pub(crate) disk: &'a Disk,
    /// Bytes that all attempts have sent.
    pub(crate) total: AtomicU64,
    /// What the last attempt has sent, if that was the whole disk, whether it was answered or not.
    pub(crate) whole: Mutex<Option<Sent>>,
    /// The largest number of bytes that one attempt has sent: progress does not go backwards.
    pub(crate) shown: Arc<AtomicU64>,
}

impl Transfer<'_> {
    /// Sends the disk to `/v2/images/ID/` followed by `target`: `file` or `stage`.
    ///
    /// # Errors
    /// Refusals, broken and stalled connections, a disk that cannot be read.
    pub(crate) async fn send(&self, id: &str, target: &str) -> Result<Sent, Failure> {
        let what = format!("upload image `{id}`");
        self.wait_for_start().await?;
        let token = self.cloud.token();
        let (context, shown) = (self.context.clone(), Arc::clone(&self.shown));
        let length = self.disk.length.unwrap_or(self.disk.length_limit);
        let (flow, body) = Flow::start(self.context, self.disk, move |moved| {
            let before = shown.fetch_max(moved, Ordering::Relaxed);
            context.progress_bytes(before.max(moved), length.max(moved));
        });
        let url = format!("{}/v2/images/{id}/{target}", self.cloud.endpoint);
        let mut outgoing = Outgoing::new(Method::PUT, url)
            .header("x-auth-token", token.secret.reveal())
            .header("content-type", "application/octet-stream")
            .body(body);
        if let Some(store) = self.config.store.as_ref().filter(|_| target == "file") {
            outgoing = outgoing.header("x-image-meta-store", store);
        }
        let answer = tokio::select! {
            answer = self.cloud.http.send(outgoing, &what) => answer,
            limit = flow.stalled(self.config.stall, self.config.import_timeout) => {
                Err(HINTS.timed_out(&format!("cannot {what}"), limit))
            }
        };
        self.total.fetch_add(flow.moved(), Ordering::Relaxed);
        let sent = flow.end().await?;
        self.whole.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&sent);
        self.cloud.judge(answer?, &token, &what).await?;
        sent.ok_or_else(|| {
            let message = format!("cannot {what}: the service answered before everything was sent");
            Failure::network(Error::new(ErrorKind::Network, message))
        })
    }

    /// Waits until the start of the disk can be read, which may be written last: a connection would be idle meanwhile.
    async fn wait_for_start(&self) -> Result<(), Failure> {
        if self.disk.deferred_prefix_len == 0 {
            return Ok(());
        }
        let (context, disk) = (self.context.clone(), self.disk.clone());
        let read =
            tokio::task::spawn_blocking(move || context.read_disk(&disk, 0, &mut [0]).map(drop))
                .await;
        read.map_err(|error| {
            Failure::stop(Error::internal("the thread that reads the disk ended").caused_by(&error))
        })?
        .map_err(Failure::stop)
    }
}

/// Looks at an image until it changes, with pauses that grow.
pub(crate) struct Looks {
    made: u64,
    begun: tokio::time::Instant,
}

impl Looks {
    const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(3));

    pub(crate) fn begin() -> Self {
        Self { made: 0, begun: tokio::time::Instant::now() }
    }

    /// Waits before the next look. Returns whether `limit` has passed since the first.
    pub(crate) async fn wait(&mut self, limit: Duration) -> bool {
        if self.begun.elapsed() >= limit {
            return true;
        }
        self.made += 1;
        tokio::time::sleep(Self::PAUSES.pause(self.made, None)).await;
        false
    }
}
