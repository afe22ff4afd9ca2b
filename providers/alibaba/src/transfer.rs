//! Parts on their way: which of them the service has already, sending the others, many at a time.
//! Each attempt reads its bytes again, is signed again, and is proved by CRC-64.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use build_image_plugin_api::{Context, Error, ErrorKind};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;

use crate::{
    client::Payload,
    config::UploadTuning,
    error::Failure,
    multipart::ListedPart,
    oss::Oss,
    parts::Plan,
    reader::{Reader, combine, joined},
    retry::{Policy, retry},
};

/// How often the host hears of progress.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// How long a reading thread may need to notice that nobody reads on.
const READER_END: Duration = Duration::from_secs(1);

/// A part the service has, proved.
#[derive(Clone, Debug)]
struct Part {
    number: u32,
    etag: String,
    crc: u64,
    kept: bool,
}

/// All parts, proved.
pub(crate) struct Transferred {
    /// Number and tag of each part, ascending.
    pub(crate) parts: Vec<(u32, String)>,
    /// CRC-64 of the whole object.
    pub(crate) crc: u64,
    /// Parts that had not to be sent.
    pub(crate) kept: usize,
}

/// Counts bytes and tells the host.
pub(crate) struct Meter {
    context: Context,
    total: u64,
    done: AtomicU64,
    sent: AtomicU64,
    told: Mutex<Instant>,
}

impl Meter {
    pub(crate) fn new(context: &Context, total: u64) -> Arc<Self> {
        let told = Mutex::new(Instant::now());
        let context = context.clone();
        Arc::new(Self { context, total, done: AtomicU64::new(0), sent: AtomicU64::new(0), told })
    }

    /// Bytes put on the wire, repeated ones included.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn add(&self, count: u64) {
        let done = self.done.fetch_add(count, Ordering::Relaxed) + count;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= REPORT_EVERY || done >= self.total {
            *told = Instant::now();
            drop(told);
            self.context.progress_bytes(done.min(self.total), self.total);
        }
    }

    fn take_back(&self, count: u64) {
        self.done.fetch_sub(count, Ordering::Relaxed);
    }
}

/// Holds all parts back while the service asks to slow down.
#[derive(Default)]
struct Gate(Mutex<Option<Instant>>);

impl Gate {
    fn close_for(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut closed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *closed = Some(closed.map_or(until, |known| known.max(until)));
    }

    async fn pass(&self) {
        loop {
            let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match until {
                Some(until) if until > Instant::now() => tokio::time::sleep_until(until).await,
                _ => return,
            }
        }
    }
}

/// One upload's parts.
pub(crate) struct Transfer<'a> {
    oss: &'a Oss,
    key: &'a str,
    upload_id: &'a str,
    plan: Plan,
    reader: &'a Reader,
    meter: &'a Arc<Meter>,
    tuning: &'a UploadTuning,
    policy: Policy,
    gate: Gate,
}

impl<'a> Transfer<'a> {
    pub(crate) fn new(
        oss: &'a Oss,
        (key, upload_id): (&'a str, &'a str),
        plan: Plan,
        reader: &'a Reader,
        meter: &'a Arc<Meter>,
        tuning: &'a UploadTuning,
    ) -> Self {
        let (policy, gate) = (part_policy(tuning), Gate::default());
        Self { oss, key, upload_id, plan, reader, meter, tuning, policy, gate }
    }

    /// Brings every part to the service that is not there already.
    pub(crate) async fn run(&self, listed: Vec<ListedPart>) -> Result<Transferred, Failure> {
        let mut listed: BTreeMap<u32, ListedPart> =
            listed.into_iter().map(|part| (part.part_number, part)).collect();
        let work: Vec<_> =
            (1..=self.plan.count()).map(|number| (number, listed.remove(&number))).collect();
        let mut parts: Vec<Part> = stream::iter(work)
            .map(|(number, known)| self.part(number, known))
            .buffer_unordered(self.tuning.threads)
            .try_collect()
            .await?;
        parts.sort_by_key(|part| part.number);
        let crc = parts
            .iter()
            .map(|part| (part.crc, self.plan.range(part.number).1))
            .reduce(|whole, next| (combine(whole.0, next.0, next.1), 0))
            .map_or(0, |(crc, _)| crc);
        let kept = parts.iter().filter(|part| part.kept).count();
        let parts = parts.into_iter().map(|part| (part.number, part.etag)).collect();
        Ok(Transferred { parts, crc, kept })
    }

    async fn part(&self, number: u32, known: Option<ListedPart>) -> Result<Part, Failure> {
        let (offset, length) = self.plan.range(number);
        if let Some(ListedPart { etag, size, crc: Some(theirs), .. }) = known
            && size == length
            && self.reader.checksum(offset, length).await? == theirs
        {
            self.meter.add(length);
            return Ok(Part { number, etag, crc: theirs, kept: true });
        }
        retry(&self.policy, async || {
            self.gate.pass().await;
            let sent = self.send(number).await;
            if let Err(failure) = &sent
                && failure.error.kind == ErrorKind::Throttled
            {
                self.gate.close_for(failure.pause.unwrap_or_default());
            }
            sent
        })
        .await
    }

    /// One attempt of one part.
    async fn send(&self, number: u32) -> Result<Part, Failure> {
        let (offset, length) = self.plan.range(number);
        let moved = Arc::new(AtomicU64::new(0));
        let meter = Arc::clone(self.meter);
        let flow = self.reader.flow(offset, length, Arc::clone(&moved), move |count| {
            meter.sent.fetch_add(count, Ordering::Relaxed);
            meter.add(count);
        });
        let body = Payload::Stream(flow.body, length);
        let stall = self.tuning.stall;
        let sent =
            self.oss.upload_part(self.key, self.upload_id, number, body, Arc::clone(&moved), stall);
        let sent = sent.await;
        flow.stop.abort();
        // After a refusal the connection may still hold the body; it is not waited for.
        let read = tokio::time::timeout(READER_END, joined(flow.thread)).await;
        let outcome = match (sent, read) {
            (_, Ok(Err(error))) => Err(Failure::stop(error)),
            (Err(failure), _) => Err(failure),
            (Ok(sent), Ok(Ok(Some(ours)))) if sent.crc.is_none_or(|theirs| theirs == ours) => {
                Ok(Part { number, etag: sent.etag, crc: ours, kept: false })
            }
            (Ok(sent), read) => {
                let ours = read.ok().and_then(Result::ok).flatten();
                Err(self.damaged(number, sent.crc, ours))
            }
        };
        if outcome.is_err() {
            self.meter.take_back(moved.load(Ordering::Relaxed));
        }
        outcome
    }

    fn damaged(&self, number: u32, theirs: Option<u64>, ours: Option<u64>) -> Failure {
        let message = format!("part {number} of `{}` did not arrive as it was sent", self.key);
        let text = |crc: Option<u64>| crc.map_or("none".to_owned(), |crc| format!("{crc:016x}"));
        Failure::network(
            Error::new(ErrorKind::Network, message)
                .with("crc64_here", text(ours))
                .with("crc64_there", text(theirs))
                .with_hint("something between here and the cloud changes data"),
        )
    }
}

/// The policy for parts: upstream's attempts and pause also say how long an outage may last.
pub(crate) fn part_policy(tuning: &UploadTuning) -> Policy {
    Policy {
        attempts: tuning.attempts,
        patience: tuning.longest_pause.saturating_mul(tuning.attempts),
        first_pause: Duration::from_millis(250),
        longest_pause: tuning.longest_pause,
    }
}
