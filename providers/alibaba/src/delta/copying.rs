//! Has the service copy parts from an earlier object. Whatever prevents it, the part is sent instead: the earlier object
//! is deleted, replaced, archived, not readable, or the service does not answer.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use build_image_plugin_api::{
    Error, ErrorKind, Result,
    retry::{Backoff, Failure, Policy, retry},
};

use super::{DeltaState, calls::bare, manifest::Described};
use crate::{
    config::Config,
    multipart::ListedPart,
    transfer::{Part, Span, Transfer},
};

/// Copying saves time; it is not worth waiting as long as for a part that is sent.
const POLICY: Policy = Policy::new(
    4,
    Duration::ZERO,
    Backoff::new(Duration::from_millis(250), Duration::from_secs(5)),
);

/// The earlier object of an upload.
#[derive(Debug, Default)]
pub(crate) struct Copying {
    source: Option<Described>,
    /// The object cannot be copied from any more.
    has_failed: AtomicBool,
}

impl Copying {
    /// The earlier object that the state names, if the settings still permit copying.
    pub(crate) fn of(delta: Option<&DeltaState>, config: &Config) -> Self {
        let base = delta.and_then(|delta| delta.base.as_ref()).filter(|_| config.delta.is_on);
        Self { source: base.map(super::Base::described), has_failed: AtomicBool::new(false) }
    }
}

impl Transfer<'_> {
    /// Copies a part; `None` when it has to be sent.
    pub(crate) async fn copied(&self, span: Span) -> Result<Option<Part>, Failure> {
        let Span { number, offset, length } = span;
        let copying = &self.copying;
        let Some(source) = &copying.source else { return Ok(None) };
        if !self.plan.is_copied(number) || copying.has_failed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let crc = self.reader.checksum(offset, length).await?;
        let upload = (self.key, self.upload_id);
        let answered = retry(&POLICY, async || {
            let _slot = self.concurrency.enter().await;
            let answered = self.oss.copy_part(upload, number, source, (offset, length)).await;
            if let Err(failure) = &answered
                && failure.error.kind == ErrorKind::Throttled
            {
                self.concurrency.throttled(failure.pause);
            }
            answered
        });
        match answered.await {
            Ok(etag) => {
                self.meter.add(length);
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                self.moved();
                Ok(Some(Part { number, etag, length, crc, kept: false, is_copied: true }))
            }
            Err(failure)
                if failure.has_code(&["NoSuchUpload"])
                    || failure.error.kind == ErrorKind::Cancelled =>
            {
                Err(failure)
            }
            Err(failure) => {
                self.stop_copying(source, &failure.error)?;
                Ok(None)
            }
        }
    }

    /// Warns once that parts are sent which should have been copied.
    fn stop_copying(&self, source: &Described, error: &Error) -> Result<()> {
        if self.copying.has_failed.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let text = format!("no more parts are copied from `{}`: {error}", source.key);
        let hint = "the upload continues, and sends these parts";
        self.reader.context().warning(text, hint)
    }

    /// Compares copied parts with the disk, as far as the service lists their checksums, and sends those that differ.
    pub(crate) async fn verify_copies(&self, parts: &mut [Part]) -> Result<(), Failure> {
        if !parts.iter().any(|part| part.is_copied) {
            return Ok(());
        }
        let listed = match self.oss.list_parts(self.key, self.upload_id, &self.policy).await {
            Ok(listed) => listed,
            // The checksum of the whole object still decides.
            Err(failure) if failure.error.kind == ErrorKind::Auth => return Ok(()),
            Err(failure) => return Err(failure),
        };
        let listed: BTreeMap<u32, ListedPart> =
            listed.into_iter().map(|part| (part.part_number, part)).collect();
        let differs = |part: &Part| {
            listed.get(&part.number).is_none_or(|listed| {
                bare(&listed.etag) != bare(&part.etag)
                    || listed.size != part.length
                    || listed.crc.is_some_and(|theirs| theirs != part.crc)
            })
        };
        let mut has_warned = false;
        for part in parts.iter_mut().filter(|part| part.is_copied && differs(part)) {
            if !std::mem::replace(&mut has_warned, true) {
                let source = self.copying.source.as_ref().map_or("", |source| &source.key);
                let text = format!("`{source}` does not have what its manifest lists");
                let hint = "the parts that differ are sent; delete the manifest of that object";
                self.reader.context().warning(text, hint)?;
            }
            let (offset, length) = self.plan.range(part.number);
            self.waiting.fetch_add(1, Ordering::Relaxed);
            *part = self.deliver(Span { number: part.number, offset, length }).await?;
        }
        Ok(())
    }
}
