//! Passes a body through the proxy frame by frame, counts it, and slows down, stalls, cuts or changes it as
//! planned.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use crate::fault::BodyPlan;
use crate::log::Record;

/// Maximum duration of a stall for a client that does not give up.
pub(crate) const LONGEST_STALL: Duration = Duration::from_secs(600);

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// As planned.
    #[error("the body is cut short by a fault")]
    Cut,
    /// Its sender closed the connection.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

/// The direction in which a body travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToServer,
    ToClient,
}

impl Direction {
    fn pick(self, request: &'static str, answer: &'static str) -> &'static str {
        if self == Self::ToServer { request } else { answer }
    }
}

/// A body and the faults that apply to it.
pub(crate) struct Faulty {
    inner: Incoming,
    plan: BodyPlan,
    direction: Direction,
    record: Arc<Record>,
    passed: u64,
    /// Read from the sender and not passed yet.
    rest: Bytes,
    pause: Option<Pin<Box<Sleep>>>,
    slowed: bool,
    cutting: bool,
}

impl Faulty {
    pub(crate) fn new(
        inner: Incoming,
        plan: BodyPlan,
        direction: Direction,
        record: Arc<Record>,
    ) -> Self {
        let rest = Bytes::new();
        let (passed, pause, slowed, cutting) = (0, None, false, false);
        Self { inner, plan, direction, record, passed, rest, pause, slowed, cutting }
    }

    fn is_over(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    /// What happens when no further byte may pass.
    fn cut_or_stall(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let first = !std::mem::replace(&mut self.cutting, true);
        if self.plan.stall == Some(self.passed) {
            if first {
                self.record.applied(self.direction.pick("stall_request", "stall_answer"));
            }
            let stall = || Box::pin(tokio::time::sleep(LONGEST_STALL));
            ready!(self.pause.get_or_insert_with(stall).as_mut().poll(context));
        } else if first {
            self.record.applied(self.direction.pick("truncate_request", "truncate_answer"));
            // Bytes that have already passed are written first.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(BodyError::Cut)))
    }

    /// Passes a range of bytes, flipped where planned.
    fn pass(&mut self, mut data: Bytes) -> Bytes {
        let start = self.passed;
        self.passed += data.len() as u64;
        for at in self.plan.corrupt.iter().filter(|at| (start..self.passed).contains(at)) {
            let mut copy = BytesMut::from(data);
            if let Some(byte) = usize::try_from(at - start).ok().and_then(|at| copy.get_mut(at)) {
                *byte ^= 1;
            }
            data = copy.freeze();
            self.record.applied(self.direction.pick("corrupt_request", "corrupt_answer"));
        }
        let length = data.len() as u64;
        self.record.note(|entry| match self.direction {
            Direction::ToServer => entry.request_bytes += length,
            Direction::ToClient => entry.answer_bytes += length,
        });
        if let Some(rate) = self.plan.slow {
            if !std::mem::replace(&mut self.slowed, true) && !self.record.has("slow") {
                self.record.applied("slow");
            }
            let time = Duration::from_micros(length.saturating_mul(1_000_000) / rate);
            self.pause = Some(Box::pin(tokio::time::sleep(time)));
        }
        data
    }
}

impl Body for Faulty {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.cutting {
            return this.cut_or_stall(context);
        }
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(context));
            this.pause = None;
        }
        let limits = [this.plan.stall, this.plan.truncate];
        let left = limits.into_iter().flatten().min().map(|limit| limit - this.passed);
        if left == Some(0) && !this.is_over() {
            return this.cut_or_stall(context);
        }
        if this.rest.is_empty() {
            let Some(frame) = ready!(Pin::new(&mut this.inner).poll_frame(context)?) else {
                return Poll::Ready(None);
            };
            match frame.into_data() {
                Ok(data) => this.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        // Twenty steps a second keep a slow stream even.
        let step = this.plan.slow.map(|rate| (rate / 20).max(1));
        let most = step.into_iter().chain(left).min().unwrap_or(u64::MAX);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(this.rest.len());
        let data = this.rest.split_to(most);
        Poll::Ready(Some(Ok(Frame::data(this.pass(data)))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.inner.size_hint();
        let rest = self.rest.len() as u64;
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper + rest);
        }
        whole
    }
}
