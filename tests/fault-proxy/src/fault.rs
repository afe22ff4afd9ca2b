//! Defines the kinds of faults, and combines the rules that strike one request.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One kind of fault, as rules name it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// The connection is reset; connections are refused for this many milliseconds.
    RefuseMs(u64),
    /// The connection is reset; the server never sees the request.
    ResetBefore,
    /// The server handles the request; the connection is reset instead of its answer.
    ResetAfter,
    /// The server never sees the request, and the client gets no answer until it gives up.
    Stall,
    /// The proxy answers; the server never sees the request.
    Status(Status),
    /// The answer is held back for this many milliseconds after the server sent it.
    DelayAnswerMs(u64),
    /// The answer's `Date` is wrong by this many seconds.
    SkewSeconds(i64),
    /// Both bodies pass at this many bytes per second.
    Slow(u64),
    /// After this many bytes of the request's body nothing more passes.
    StallRequest(u64),
    /// After this many bytes of the answer's body nothing more passes.
    StallAnswer(u64),
    /// The server gets this many bytes of the request's body, then both connections end.
    TruncateRequest(u64),
    /// The client gets this many bytes of the answer's body, then its connection ends.
    TruncateAnswer(u64),
    /// One bit of this byte of the request's body is flipped.
    CorruptRequest(u64),
    /// One bit of this byte of the answer's body is flipped.
    CorruptAnswer(u64),
}

/// An answer of the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Status {
    /// 200 to 599.
    pub(crate) code: u16,
    /// Value of `Retry-After`, in seconds.
    pub(crate) retry_after: Option<u64>,
    /// The body; empty when missing.
    pub(crate) body: Option<String>,
    /// Value of `Content-Type`.
    pub(crate) content_type: Option<String>,
}

/// How the request ends before or instead of the server's answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ending {
    Refuse(Duration),
    ResetBefore,
    ResetAfter,
    Stall,
    Status(Status),
}

impl Ending {
    /// The fault's name in the log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Refuse(_) => "refuse_ms",
            Self::ResetBefore => "reset_before",
            Self::ResetAfter => "reset_after",
            Self::Stall => "stall",
            Self::Status(_) => "status",
        }
    }
}

/// What happens to one body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BodyPlan {
    pub(crate) stall: Option<u64>,
    pub(crate) truncate: Option<u64>,
    pub(crate) corrupt: Vec<u64>,
    /// Bytes per second.
    pub(crate) slow: Option<u64>,
}

/// What happens to one request.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    /// If several apply, the first one counts.
    pub(crate) ending: Option<Ending>,
    pub(crate) delay: Duration,
    pub(crate) skew: i64,
    pub(crate) request: BodyPlan,
    pub(crate) answer: BodyPlan,
}

impl Plan {
    /// Adds a fault. Of two limits the lower one counts.
    pub(crate) fn add(&mut self, fault: &Fault) {
        let lower = |slot: &mut Option<u64>, limit: u64| {
            *slot = Some(slot.map_or(limit, |old| old.min(limit)));
        };
        let ending = match fault {
            Fault::RefuseMs(time) => Ending::Refuse(Duration::from_millis(*time)),
            Fault::ResetBefore => Ending::ResetBefore,
            Fault::ResetAfter => Ending::ResetAfter,
            Fault::Stall => Ending::Stall,
            Fault::Status(status) => Ending::Status(status.clone()),
            Fault::DelayAnswerMs(time) => {
                self.delay = self.delay.saturating_add(Duration::from_millis(*time));
                return;
            }
            Fault::SkewSeconds(seconds) => {
                self.skew = self.skew.saturating_add(*seconds);
                return;
            }
            Fault::Slow(rate) => {
                lower(&mut self.request.slow, *rate);
                return lower(&mut self.answer.slow, *rate);
            }
            Fault::StallRequest(bytes) => return lower(&mut self.request.stall, *bytes),
            Fault::StallAnswer(bytes) => return lower(&mut self.answer.stall, *bytes),
            Fault::TruncateRequest(bytes) => return lower(&mut self.request.truncate, *bytes),
            Fault::TruncateAnswer(bytes) => return lower(&mut self.answer.truncate, *bytes),
            Fault::CorruptRequest(at) => return self.request.corrupt.push(*at),
            Fault::CorruptAnswer(at) => return self.answer.corrupt.push(*at),
        };
        self.ending.get_or_insert(ending);
    }
}
