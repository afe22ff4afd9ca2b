//! Sends a layer: in chunks, which a later process continues, or in one request. Existing blobs are not sent.
//!
//! OCI distribution specification 1.1: "Pushing a blob in chunks", "POST then PUT", "Checking if content exists in the
//! registry".

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use build_image_plugin_api::{
    Context, Error, ErrorKind, Result,
    http::{Answer, Body},
    retry::{Backoff, Failure, RetryAction},
};
use bytes::Bytes;
use futures_util::stream::unfold;
use reqwest::Method;

use crate::{
    config::Config,
    flow::{Flow, Hashes, Layer, Reading},
    http::HINTS,
    registry::{Call, Registry},
    session::{Open, Started, abandon, is_lost, offset_of, recorded},
    transfer::{Meter, blocks_body},
};

/// Pauses between attempts.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(20));
/// Attempts to send one chunk without progress.
const CHUNK_ATTEMPTS: u32 = 5;
/// How long a registry may take to compare the digest of a blob; it may read all of it.
const CLOSE_LIMIT: Duration = Duration::from_secs(900);

/// Why an attempt ended.
enum Ended {
    /// The layer has to be sent again.
    Again(Box<Failure>),
    /// Another attempt is useless.
    Failed(Box<Error>),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.error)
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// Sends the layer of a build.
pub(crate) struct Push<'a> {
    pub(crate) context: &'a Context,
    pub(crate) registry: &'a Registry,
    pub(crate) config: &'a Config,
    pub(crate) reading: &'a Reading,
    pub(crate) meter: Arc<Meter>,
    pub(crate) started: Started,
}

impl Push<'_> {
    /// Sends the layer, unless the registry has it. `known` is what an earlier reading found.
    ///
    /// # Errors
    /// Refusals; broken connections after several attempts; a disk that cannot be read, or that has changed.
    pub(crate) async fn layer(&mut self, known: Option<Layer>) -> Result<Layer> {
        if let Some(layer) = &known
            && has_blob(self.registry, &layer.digest, layer.size).await?
        {
            if let Some(open) = self.started.session.take() {
                abandon(self.context, self.registry, &open).await?;
            }
            self.started.layer.clone_from(&known);
            self.started.save(self.context)?;
            return Ok(layer.clone());
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            let sent = match &known {
                Some(layer) if self.config.chunk == 0 => self.whole(layer).await,
                _ => self.chunks(known.as_ref()).await,
            };
            let failure = match sent {
                Ok(layer) => return Ok(layer),
                Err(Ended::Failed(error)) => return Err(*error),
                Err(Ended::Again(failure)) => failure,
            };
            tracing::warn!(error = %failure.error, attempt, "the upload has to start again");
            if let Some(open) = self.started.session.take() {
                abandon(self.context, self.registry, &open).await?;
                self.started.save(self.context)?;
            }
            if attempt >= self.config.attempts {
                return Err(failure.error.with_context("attempts", attempt));
            }
            // What is read now is hashed again: a disk that has changed meanwhile explains a digest that differs.
            *self.reading.hashes.lock().unwrap_or_else(PoisonError::into_inner) = Hashes::default();
            tokio::time::sleep(BACKOFF.pause(attempt.into(), failure.pause)).await;
        }
    }

    /// Returns a session that can be continued: that of an earlier process, or another one.
    async fn session(&mut self) -> Result<Open, Ended> {
        if let Some(mut open) = self.started.session.clone() {
            // The session is announced again: this process continues with it.
            self.context.will_create(&open.resource(self.registry))?;
            if open.look(self.registry).await? {
                tracing::info!(offset = open.offset, "continuing the upload");
                return Ok(open);
            }
            abandon(self.context, self.registry, &open).await?;
        }
        let open = Open::begin(self.context, self.registry).await?;
        self.keep(&open).await?;
        Ok(open)
    }

    async fn keep(&mut self, open: &Open) -> Result<()> {
        self.started.session = Some(open.clone());
        recorded(self.context, self.registry, open, self.started.save(self.context)).await
    }

    /// Sends the layer in chunks.
    async fn chunks(&mut self, known: Option<&Layer>) -> Result<Layer, Ended> {
        let mut open = self.session().await?;
        let mut flow = Flow::start(self.reading, open.offset);
        self.meter.begin(open.offset);
        let mut sent = self.pass(&mut flow, &mut open).await;
        // A part of a chunk may have arrived: only the newest URL can be cancelled.
        if sent.is_err()
            && self.started.session.as_ref() != Some(&open)
            && let Err(error) = self.keep(&open).await
        {
            sent = Err(error.into());
        }
        // A disk that could not be read explains why the registry got too little.
        let read = flow.end().await?;
        sent?;
        let layer =
            read.ok_or_else(|| Error::internal("the upload ended before the end of the disk"))?;
        if known.is_some_and(|known| *known != layer) {
            return Err(changed().into());
        }
        self.started.layer = Some(layer.clone());
        self.keep(&open).await?;
        self.close(&open, &layer).await?;
        Ok(layer)
    }

    async fn pass(&mut self, flow: &mut Flow, open: &mut Open) -> Result<(), Ended> {
        let size = self.config.chunk.max(open.shortest_chunk).max(1);
        loop {
            let blocks = flow.chunk(size).await;
            let count: usize = blocks.iter().map(Bytes::len).sum();
            if count > 0 {
                self.chunk(open, blocks).await?;
                self.keep(open).await?;
            }
            if (count as u64) < size {
                return Ok(());
            }
        }
    }

    /// Sends one chunk. After a failure the registry is asked how much of it has arrived.
    async fn chunk(&self, open: &mut Open, mut blocks: Vec<Bytes>) -> Result<(), Ended> {
        let start = open.offset;
        let end = start + blocks.iter().map(|block| block.len() as u64).sum::<u64>();
        let (mut attempt, mut stuck, mut renewed) = (0_u32, 0_u32, false);
        while open.offset < end {
            let before = open.offset;
            // An undo cannot cancel an upload whose last answer is missing: its URL is outdated then.
            let patched = self.context.until_answered(self.patch(open, &blocks, end)).await;
            let Err(failure) = patched else {
                advance(&mut blocks, before, open.offset, end)?;
                stuck = if open.offset == before { stuck + 1 } else { 0 };
                if stuck >= CHUNK_ATTEMPTS {
                    let error = Error::new(ErrorKind::Provider, "the registry accepts no bytes");
                    return Err(Ended::Again(Box::new(Failure::stop(error))));
                }
                continue;
            };
            match failure.action {
                RetryAction::RenewCredentials if !std::mem::replace(&mut renewed, true) => continue,
                RetryAction::Backoff => {}
                _ if is_lost(&failure) => {}
                _ => return Err(failure.into()),
            }
            attempt += 1;
            tracing::warn!(error = %failure.error, attempt, "a chunk was not accepted");
            if attempt >= CHUNK_ATTEMPTS {
                return Err(Ended::Again(Box::new(failure)));
            }
            tokio::time::sleep(BACKOFF.pause(attempt.into(), failure.pause)).await;
            if !open.look(self.registry).await? || open.offset < before || open.offset > end {
                return Err(Ended::Again(Box::new(failure)));
            }
            if open.offset > before {
                attempt = 0;
            }
            advance(&mut blocks, before, open.offset, end)?;
        }
        Ok(())
    }

    /// Sends the rest of a chunk once.
    async fn patch(&self, open: &mut Open, blocks: &[Bytes], end: u64) -> Result<(), Failure> {
        let what = format!("upload to `{}`", self.registry.reference.name());
        let url = open.url(self.registry)?;
        let mut call = Call::new(Method::PATCH, url.clone())
            .header("content-type", "application/octet-stream")
            .header("content-range", format!("{}-{}", open.offset, end - 1));
        call.limit = Duration::MAX;
        let body = blocks_body(blocks.to_vec(), &self.meter, open.offset);
        let answer = self.watched(&call, body, &what).await?;
        open.moved(self.registry, &url, &answer)?;
        open.offset = answer.header("range").and_then(offset_of).unwrap_or(end);
        Ok(())
    }

    /// Sends a body, and gives up when nothing moves.
    async fn watched(&self, call: &Call, body: Body, what: &str) -> Result<Answer, Failure> {
        let sending = self.registry.send(call, call.url.clone(), body, what);
        let sent = tokio::select! {
            sent = sending => sent,
            limit = self.meter.stalled(self.config.stall) => {
                Err(HINTS.timed_out(&format!("cannot {what}"), limit))
            }
        };
        let (answer, used) = sent?;
        self.registry.judge(answer, used, what).await
    }

    /// Ends a session: the registry compares the digest.
    async fn close(&mut self, open: &Open, layer: &Layer) -> Result<(), Ended> {
        let mut url = open.url(self.registry)?;
        url.query_pairs_mut().append_pair("digest", &layer.digest);
        let mut call =
            Call::new(Method::PUT, url).header("content-type", "application/octet-stream");
        call.limit = CLOSE_LIMIT;
        let what = format!("complete the upload to `{}`", self.registry.reference.name());
        let closed = self.context.until_answered(self.registry.call(&call, &what)).await;
        self.closed(closed.map(drop), open, layer).await
    }

    /// Records the end of a session, of which the answer may be lost.
    async fn closed(
        &mut self,
        result: Result<(), Failure>,
        open: &Open,
        layer: &Layer,
    ) -> Result<(), Ended> {
        if let Err(failure) = result
            && (failure.action == RetryAction::RenewCredentials
                || !has_blob(self.registry, &layer.digest, layer.size).await?)
        {
            let passing = failure.action == RetryAction::Backoff && failure.status.is_none();
            return Err(if is_lost(&failure) || passing {
                Ended::Again(Box::new(failure))
            } else {
                failure.into()
            });
        }
        self.context.gone(&open.resource(self.registry))?;
        self.started.session = None;
        self.started.layer = Some(layer.clone());
        self.started.save(self.context)?;
        Ok(())
    }

    /// Sends the layer in one request, whose digest and length are known.
    async fn whole(&mut self, layer: &Layer) -> Result<Layer, Ended> {
        if let Some(open) = self.started.session.take() {
            abandon(self.context, self.registry, &open).await?;
        }
        let open = Open::begin(self.context, self.registry).await?;
        self.keep(&open).await?;
        let mut url = open.url(self.registry)?;
        url.query_pairs_mut().append_pair("digest", &layer.digest);
        let mut call =
            Call::new(Method::PUT, url).header("content-type", "application/octet-stream");
        call.limit = Duration::MAX;
        let what = format!("upload to `{}`", self.registry.reference.name());
        let flow = Flow::start(self.reading, 0);
        self.meter.begin(0);
        let meter = Arc::clone(&self.meter);
        let stream = unfold((flow, 0), move |(mut flow, at)| {
            let meter = Arc::clone(&meter);
            async move {
                let block = flow.block(u64::MAX).await?;
                let next = at + block.len() as u64;
                meter.moved(next, block.len() as u64);
                Some((Ok(block), (flow, next)))
            }
        });
        let body = Body::stream(stream, Some(layer.size));
        let sent = self.watched(&call, body, &what).await;
        // A refused token was renewed, so that another attempt has it.
        if let Err(failure) = &sent
            && (failure.action == RetryAction::RenewCredentials
                || failure.action == RetryAction::Backoff)
            && !has_blob(self.registry, &layer.digest, layer.size).await?
        {
            return Err(Ended::Again(Box::new(failure.clone())));
        }
        self.closed(sent.map(drop), &open, layer).await?;
        Ok(layer.clone())
    }
}

/// The error for a disk that is not the same at its second reading.
fn changed() -> Error {
    Error::new(ErrorKind::Local, "the disk has changed while it was uploaded")
        .with_hint("let no other program write to the disk, and build again")
}

/// Removes the blocks that have arrived.
fn advance(blocks: &mut Vec<Bytes>, before: u64, now: u64, end: u64) -> Result<(), Ended> {
    if now < before || now > end {
        let message = format!("the registry has {now} bytes of the layer, and {end} were sent");
        let error = Error::new(ErrorKind::Provider, message);
        return Err(Ended::Again(Box::new(Failure::stop(error))));
    }
    let mut left = now - before;
    while left > 0 && !blocks.is_empty() {
        let first = &mut blocks[0];
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(first.len());
        let _ = first.split_to(count);
        left -= count as u64;
        if first.is_empty() {
            blocks.remove(0);
        }
    }
    Ok(())
}

/// Whether the repository has a blob of this digest and size. A registry redirects only requests for blobs it has.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn has_blob(
    registry: &Registry,
    digest: &str,
    size: u64,
) -> Result<bool, Failure> {
    let call = Call::new(Method::HEAD, registry.url(&format!("blobs/{digest}"))?);
    let found = registry.find(&call, &format!("look for blob `{digest}`")).await?;
    Ok(found.is_some_and(|answer| {
        let length = answer.header("content-length").and_then(|text| text.parse().ok());
        length.is_none_or(|length: u64| length == size)
    }))
}

/// Sends a blob in memory, unless the repository has it.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn small_blob(
    context: &Context,
    registry: &Registry,
    digest: &str,
    bytes: &Bytes,
) -> Result<()> {
    let size = bytes.len() as u64;
    if has_blob(registry, digest, size).await? {
        return Ok(());
    }
    let open = Open::begin(context, registry).await?;
    let mut url = open.url(registry)?;
    url.query_pairs_mut().append_pair("digest", digest);
    let call = Call::new(Method::PUT, url)
        .header("content-type", "application/octet-stream")
        .body(bytes.clone());
    let sent = registry.call(&call, &format!("upload blob `{digest}`")).await;
    if let Err(failure) = sent
        && !has_blob(registry, digest, size).await?
    {
        let _ = abandon(context, registry, &open).await;
        return Err(failure.into());
    }
    context.gone(&open.resource(registry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_not_arrived_is_sent_again() {
        let blocks = || vec![Bytes::from_static(b"abcd"), Bytes::from_static(b"efg")];
        for (now, rest) in [(10, "abcdefg"), (12, "cdefg"), (14, "efg"), (16, "g"), (17, "")] {
            let mut left = blocks();
            assert!(advance(&mut left, 10, now, 17).is_ok());
            assert_eq!(left.concat(), rest.as_bytes(), "{now}");
        }
        for now in [9, 18] {
            assert!(matches!(advance(&mut blocks(), 10, now, 17), Err(Ended::Again(_))));
        }
    }
}
