//! Reads a request's body frame by frame or whole, counted, paced, and drained after a refusal so that the
//! client gets to read the answer.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::Throttle;

/// Bytes of a refused request's body that are drained before the connection is closed.
const DRAIN_LIMIT: u64 = 64 << 20;

/// A body that did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client disconnected or broke the framing.
    #[error("the request body broke off")]
    Broken(#[source] hyper::Error),
    /// More bytes than this call may carry.
    #[error("the request body is longer than {limit} bytes")]
    TooLong {
        /// Maximum number of bytes.
        limit: u64,
    },
}

/// The body of one request.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Incoming,
    received: u64,
    throttles: Vec<Arc<Throttle>>,
}

impl RequestBody {
    /// Wraps hyper's body.
    pub(crate) fn new(incoming: Incoming) -> Self {
        Self { incoming, received: 0, throttles: Vec::new() }
    }

    /// Reads the remaining body no faster than this.
    pub(crate) fn pace(&mut self, throttles: Vec<Arc<Throttle>>) {
        self.throttles = throttles;
    }

    /// Bytes received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The next run of bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        while let Some(frame) = self.incoming.frame().await {
            if let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() {
                self.received += data.len() as u64;
                let passed = self.throttles.iter().map(|pace| pace.take(data.len() as u64)).max();
                if let Some(passed) = passed {
                    tokio::time::sleep_until(passed).await;
                }
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body, when it has at most `limit` bytes.
    pub(crate) async fn whole(&mut self, limit: u64) -> Result<Bytes, BodyError> {
        let mut text = BytesMut::new();
        while let Some(data) = self.next().await? {
            if text.len() as u64 + data.len() as u64 > limit {
                return Err(BodyError::TooLong { limit });
            }
            text.extend_from_slice(&data);
        }
        Ok(text.freeze())
    }

    /// Reads and discards the rest, up to a limit.
    pub(crate) async fn drain(&mut self) {
        let until = self.received + DRAIN_LIMIT;
        while self.received < until && !self.incoming.is_end_stream() {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}
