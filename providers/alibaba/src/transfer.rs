//! Transfers the parts of an upload: finds those that the service already has and sends the others, many at a
//! time, and a late part twice. Each attempt reads its bytes again, is signed again, and is verified by
//! CRC-64.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use build_image_plugin_api::{
    Error, ErrorKind,
    retry::{Backoff, Failure, Policy, RetryAction, retry},
};
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    future::{Either, select},
    stream,
};
use tokio::time::Instant;

use crate::{
    concurrency::ConcurrencyLimiter,
    delta::Copying,
    meter::{Attempt, Meter},
    multipart::ListedPart,
    options::UploadTuning,
    oss::Oss,
    parts::Plan,
    rate_limiter::RateLimiter,
    reader::{BodyThrottle, Reader, combine, joined},
};

/// Time that a reading thread may need to notice that its output is no longer read.
const READER_END: Duration = Duration::from_secs(1);
/// Interval between two checks for late parts.
const LATE_CHECK: Duration = Duration::from_millis(100);
/// A part is late when it takes this many times as long as others, and at least this long.
const LATE: (u32, Duration) = (3, Duration::from_secs(1));

/// A part that the service has, verified.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) number: u32,
    pub(crate) etag: String,
    pub(crate) length: u64,
    pub(crate) crc: u64,
    pub(crate) kept: bool,
    /// The service copied it from an earlier object.
    pub(crate) is_copied: bool,
}

/// A part to send: its number and the range of its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) number: u32,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// The user is warned when attempts fail and no part has arrived for this time, or for the stall limit of a
/// part when that is shorter.
const STANDSTILL: Duration = Duration::from_secs(30);

/// Maximum factor by which the configured stall limit of a part may be extended.
const MOST_SILENCE: u32 = 8;

/// All parts, verified.
pub(crate) struct Transferred {
    /// Number and tag of each part, ascending.
    pub(crate) parts: Vec<(u32, String)>,
    /// CRC-64 of the whole object.
    pub(crate) crc: u64,
    /// Bytes of the whole object.
    pub(crate) length: u64,
    /// Number of parts that an earlier attempt sent or copied.
    pub(crate) kept: usize,
}

/// The parts of one upload.
pub(crate) struct Transfer<'a> {
    pub(crate) oss: &'a Oss,
    pub(crate) key: &'a str,
    pub(crate) upload_id: &'a str,
    pub(crate) plan: Plan,
    /// The earlier object that parts are copied from.
    pub(crate) copying: Copying,
    pub(crate) reader: &'a Reader,
    pub(crate) meter: &'a Arc<Meter>,
    tuning: &'a UploadTuning,
    pub(crate) policy: Policy,
    pub(crate) concurrency: ConcurrencyLimiter,
    rate_limiter: Arc<RateLimiter>,
    /// Number of parts that have not been started.
    pub(crate) waiting: AtomicU32,
    /// Bytes of the parts that arrived, and their total duration in milliseconds.
    arrived: (AtomicU64, AtomicU64),
    /// The end of the image, once a part determined it.
    end: AtomicU64,
    /// Factor by which the configured stall limit of a part is extended.
    silence: AtomicU32,
    /// When the last part arrived, and whether the user was warned that none does.
    standstill: Mutex<(Instant, bool)>,
}

impl<'a> Transfer<'a> {
    pub(crate) fn new(
        oss: &'a Oss,
        (key, upload_id): (&'a str, &'a str),
        (plan, copying): (Plan, Copying),
        reader: &'a Reader,
        meter: &'a Arc<Meter>,
        tuning: &'a UploadTuning,
    ) -> Self {
        let waiting = AtomicU32::new(plan.count());
        Self {
            oss,
            key,
            upload_id,
            plan,
            copying,
            reader,
            meter,
            tuning,
            policy: part_policy(tuning),
            concurrency: ConcurrencyLimiter::new(tuning.threads),
            rate_limiter: Arc::new(RateLimiter::new(tuning.rate)),
            waiting,
            arrived: (AtomicU64::new(0), AtomicU64::new(0)),
            end: AtomicU64::new(u64::MAX),
            silence: AtomicU32::new(1),
            standstill: Mutex::new((Instant::now(), false)),
        }
    }

    /// Sends every part that the service does not have.
    pub(crate) async fn run(&self, listed: Vec<ListedPart>) -> Result<Transferred, Failure> {
        let mut listed: BTreeMap<u32, ListedPart> =
            listed.into_iter().map(|part| (part.part_number, part)).collect();
        let order = self.plan.order(self.reader.deferred_prefix_len());
        let work: Vec<_> = order.map(|number| (number, listed.remove(&number))).collect();
        let mut parts: Vec<Part> = stream::iter(work)
            .map(|(number, known)| self.part(number, known))
            .buffer_unordered(self.tuning.threads)
            .try_filter_map(async |part| Ok(part))
            .try_collect()
            .await?;
        parts.sort_by_key(|part| part.number);
        self.verify_copies(&mut parts).await?;
        let (crc, length) = parts
            .iter()
            .map(|part| (part.crc, part.length))
            .reduce(|whole, next| (combine(whole.0, next.0, next.1), whole.1 + next.1))
            .ok_or_else(empty)?;
        self.meter.ends_at(length);
        let kept = parts.iter().filter(|part| part.kept).count();
        let parts = parts.into_iter().map(|part| (part.number, part.etag)).collect();
        Ok(Transferred { parts, crc, length, kept })
    }

    /// The bytes of a part, as soon as they can be read; `None` when the image ends before it.
    async fn span(&self, number: u32) -> Result<Option<Span>, Failure> {
        let (offset, planned) = self.plan.range(number);
        if offset >= self.end.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let length = self.reader.available(offset, planned).await?;
        if length < planned {
            self.end.fetch_min(offset + length, Ordering::Relaxed);
        }
        Ok((length > 0).then_some(Span { number, offset, length }))
    }

    async fn part(&self, number: u32, known: Option<ListedPart>) -> Result<Option<Part>, Failure> {
        let Some(span) = self.span(number).await? else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Ok(None);
        };
        let Span { offset, length, .. } = span;
        if let Some(ListedPart { etag, size, crc: Some(theirs), .. }) = known
            && size == length
            && self.reader.checksum(offset, length).await? == theirs
        {
            self.meter.add(length);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Ok(Some(Part {
                number,
                etag,
                length,
                crc: theirs,
                kept: true,
                is_copied: false,
            }));
        }
        if let Some(part) = self.copied(span).await? {
            return Ok(Some(part));
        }
        self.deliver(span).await.map(Some)
    }

    /// Sends a part until it arrives.
    pub(crate) async fn deliver(&self, span: Span) -> Result<Part, Failure> {
        let length = span.length;
        let mut begun = false;
        retry(&self.policy, async || {
            let _slot = self.concurrency.enter().await;
            if !std::mem::replace(&mut begun, true) {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
            }
            let start = Instant::now();
            let sent = self.send_twice_when_late(span).await;
            match &sent {
                Ok(_) => {
                    let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                    self.arrived.0.fetch_add(length, Ordering::Relaxed);
                    self.arrived.1.fetch_add(millis, Ordering::Relaxed);
                    self.concurrency.arrived(length);
                }
                Err(failure) if failure.error.kind == ErrorKind::Throttled => {
                    self.concurrency.throttled(failure.pause);
                }
                Err(_) => {}
            }
            if let Err(failure) = &sent {
                self.warn_of_standstill(failure)?;
            } else {
                self.moved();
            }
            sent
        })
        .await
        .map_err(|mut failure| {
            if failure.error.kind == ErrorKind::Throttled {
                let hint = "the account's request limit was reached: lower ALIBABA_THREAD_COUNT, or find what else calls the API with this account";
                failure.error.hint = Some(hint.to_owned());
            }
            failure
        })
    }

    /// Records that a part arrived.
    pub(crate) fn moved(&self) {
        self.standstill.lock().unwrap_or_else(PoisonError::into_inner).0 = Instant::now();
    }

    /// Warns once when no part has arrived for a long time, with the reason of the latest failure.
    fn warn_of_standstill(&self, failure: &Failure) -> Result<(), Failure> {
        let mut standstill = self.standstill.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = standstill.0.elapsed();
        if failure.action != RetryAction::Backoff
            || standstill.1
            || silent < STANDSTILL.min(self.tuning.stall)
        {
            return Ok(());
        }
        standstill.1 = true;
        drop(standstill);
        let text = format!(
            "no part of the disk has arrived for {} s: {}",
            silent.as_secs(),
            failure.error
        );
        let hint = failure.error.hint.as_deref().unwrap_or("the parts are sent again");
        Ok(self.reader.context().warning(text, hint)?)
    }

    /// One attempt of one part. When it is late and no other part is left to start, it is sent a second time
    /// in parallel; the first to arrive counts. The service keeps one of them.
    async fn send_twice_when_late(&self, span: Span) -> Result<Part, Failure> {
        let mut first = std::pin::pin!(self.send(span));
        tokio::select! {
            sent = &mut first => return sent,
            () = self.late(span.length) => tracing::info!(part = span.number, "late, sending it once more beside"),
        }
        let second = std::pin::pin!(self.send(span));
        match select(first, second).await {
            Either::Left((Ok(part), _)) | Either::Right((Ok(part), _)) => Ok(part),
            Either::Left((Err(_), second)) => second.await,
            Either::Right((Err(_), first)) => first.await,
        }
    }

    /// Returns when a part of `length` bytes that was started now is late.
    async fn late(&self, length: u64) {
        let start = Instant::now();
        loop {
            tokio::time::sleep(LATE_CHECK).await;
            let arrived = self.arrived.0.load(Ordering::Relaxed);
            let idle = self.waiting.load(Ordering::Relaxed) == 0 && !self.rate_limiter.is_limited();
            if arrived == 0 || !idle {
                continue;
            }
            // Parts between copied ones differ in length.
            let millis = u128::from(self.arrived.1.load(Ordering::Relaxed));
            let usual = millis * u128::from(length) / u128::from(arrived);
            let usual = Duration::from_millis(u64::try_from(usual).unwrap_or(u64::MAX));
            if start.elapsed() > usual.saturating_mul(LATE.0).max(LATE.1) {
                return;
            }
        }
    }

    /// One attempt of one part.
    async fn send(&self, span: Span) -> Result<Part, Failure> {
        let Span { number, offset, length } = span;
        let alive = Arc::new(AtomicU64::new(0));
        let attempt = Attempt::new(self.meter);
        let valve = BodyThrottle {
            rate_limiter: Arc::clone(&self.rate_limiter),
            alive: Arc::clone(&alive),
            on_moved: Box::new(attempt.counter()),
        };
        let flow = self.reader.flow(offset, length, valve);
        let times = self.silence.load(Ordering::Relaxed);
        let stall = self.tuning.stall.saturating_mul(times);
        let sent = self.oss.upload_part(self.key, self.upload_id, number, flow.body, alive, stall);
        let sent = sent.await;
        flow.stop.abort();
        // After a refusal the connection may still hold the body; this does not wait for it.
        let read = tokio::time::timeout(READER_END, joined(flow.thread)).await;
        match (sent, read) {
            (_, Ok(Err(error))) => Err(Failure::stop(error)),
            (Err(failure), read) => {
                let handed_over = matches!(read, Ok(Ok(Some(_))));
                if handed_over && failure.error.kind == ErrorKind::Timeout {
                    self.be_patient(times);
                }
                Err(failure)
            }
            (Ok(sent), Ok(Ok(Some(ours)))) if sent.crc.is_none_or(|theirs| theirs == ours) => {
                attempt.keep();
                let etag = sent.etag;
                Ok(Part { number, etag, length, crc: ours, kept: false, is_copied: false })
            }
            (Ok(sent), read) => {
                let ours = read.ok().and_then(Result::ok).flatten();
                Err(self.damaged(number, sent.crc, ours))
            }
        }
    }

    /// A connection may be so slow that the data of a part buffered by the system, some MiB, is not sent
    /// before the stall limit. Sending it repeatedly would never end, so the next attempt may take twice as
    /// long.
    fn be_patient(&self, times: u32) {
        let doubled = (times * 2).min(MOST_SILENCE);
        // If several attempts waited equally long, only the first one counts.
        let _ = self.silence.compare_exchange(times, doubled, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn damaged(&self, number: u32, theirs: Option<u64>, ours: Option<u64>) -> Failure {
        let message = format!("part {number} of `{}` did not arrive as it was sent", self.key);
        let text = |crc: Option<u64>| crc.map_or("none".to_owned(), |crc| format!("{crc:016x}"));
        Failure::network(
            Error::new(ErrorKind::Network, message)
                .with_context("crc64_here", text(ours))
                .with_context("crc64_there", text(theirs))
                .with_hint("something between here and the cloud changes data"),
        )
    }
}

fn empty() -> Failure {
    Failure::stop(Error::new(ErrorKind::InvalidImage, "the disk image is empty"))
}

/// The policy for parts: the configured attempts and pause also determine how long an outage may last.
pub(crate) fn part_policy(tuning: &UploadTuning) -> Policy {
    Policy::new(
        tuning.attempts,
        tuning.longest_pause.saturating_mul(tuning.attempts),
        Backoff::new(Duration::from_millis(250), tuning.longest_pause),
    )
}
