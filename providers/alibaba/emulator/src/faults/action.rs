//! Defines the actions of fault rules, and the plan for one call that combines several of them.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::http::Throttle;

/// How a failed import is reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FailTask {
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) message: String,
    /// Task status `Finished` with a failed operation, instead of `Failed`.
    #[serde(default)]
    pub(crate) finished: bool,
}

/// One line of an image check's report, as DescribeImages shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckItem {
    /// `GUESTOS.Virtio` and the like.
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) value: String,
    #[serde(default)]
    pub(crate) risk_code: String,
    /// `High`, `Medium`, or empty.
    #[serde(default)]
    pub(crate) risk_level: String,
}

/// An answer instead of the real one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Status {
    pub(crate) status: u16,
    pub(crate) code: String,
}

/// The action of a rule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Action {
    Word(Word),
    Status(Status),
    Number(Number),
    Fail(Fail),
    Check(Check),
}

/// Actions without a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    ResetBefore,
    ResetAfter,
    TruncateAnswer,
    CorruptBody,
    CorruptAnswer,
    Throttle,
    ExpireToken,
    Unlisted,
    HideChecksum,
}

/// Actions with a number, written `{"name": N}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Number {
    /// Milliseconds to wait before the call begins.
    StallMs(u64),
    /// Milliseconds that the answer is delayed after the call is done.
    HoldAnswerMs(u64),
    /// Seconds that the server's clock is ahead.
    SkewSeconds(i64),
    /// Seconds that an image stays `Creating`; `u32::MAX` means forever.
    KeepCreating(u32),
    /// Bytes per second for this call alone.
    SlowBody(u64),
    /// Bytes per second for all calls of the rule together.
    Bandwidth(u64),
    /// Calls per second; more are throttled.
    Qps(u64),
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fail {
    fail_task: FailTask,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    image_check: Vec<CheckItem>,
}

/// All faults of one call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    pub(crate) status: Option<Status>,
    pub(crate) reset_before: bool,
    pub(crate) reset_after: bool,
    pub(crate) stall: Option<Duration>,
    pub(crate) hold: Option<Duration>,
    pub(crate) truncate: bool,
    pub(crate) corrupt: bool,
    pub(crate) corrupt_answer: bool,
    pub(crate) throttle: bool,
    pub(crate) expire_token: bool,
    /// Lists of images are empty.
    pub(crate) unlisted: bool,
    /// The answer has no CRC-64.
    pub(crate) hide_checksum: bool,
    /// How far the server's clock is ahead, in milliseconds.
    pub(crate) skew: Millis,
    pub(crate) fail_task: Option<FailTask>,
    /// Findings of the image check of an import.
    pub(crate) image_check: Vec<CheckItem>,
    /// How long an image stays `Creating` after its task is finished, in milliseconds.
    pub(crate) keep_creating: Option<Millis>,
    /// Rates for the bodies of request and answer.
    pub(crate) throttles: Vec<Arc<Throttle>>,
    /// Names of the actions, for the log.
    pub(crate) marks: Vec<&'static str>,
}

impl Plan {
    /// Adds an action; `shared` is the rate of a rule that limits all its calls together.
    pub(super) fn add(&mut self, action: &Action, shared: Option<&Arc<Throttle>>) {
        self.marks.push(action.name());
        match action {
            Action::Word(Word::ResetBefore) => self.reset_before = true,
            Action::Word(Word::ResetAfter) => self.reset_after = true,
            Action::Word(Word::TruncateAnswer) => self.truncate = true,
            Action::Word(Word::CorruptBody) => self.corrupt = true,
            Action::Word(Word::CorruptAnswer) => self.corrupt_answer = true,
            Action::Word(Word::Throttle) | Action::Number(Number::Qps(_)) => self.throttle = true,
            Action::Word(Word::ExpireToken) => self.expire_token = true,
            Action::Word(Word::Unlisted) => self.unlisted = true,
            Action::Word(Word::HideChecksum) => self.hide_checksum = true,
            Action::Status(status) => self.status = Some(status.clone()),
            Action::Number(Number::StallMs(time)) => {
                self.stall = Some(Duration::from_millis(*time));
            }
            Action::Number(Number::HoldAnswerMs(time)) => {
                self.hold = Some(Duration::from_millis(*time));
            }
            Action::Number(Number::SkewSeconds(time)) => self.skew = time.saturating_mul(1000),
            Action::Number(Number::KeepCreating(time)) => {
                self.keep_creating = Some(Millis::from(*time) * 1000);
            }
            Action::Number(Number::SlowBody(rate)) => {
                self.throttles.push(Arc::new(Throttle::new(*rate)));
            }
            Action::Number(Number::Bandwidth(_)) => self.throttles.extend(shared.cloned()),
            Action::Check(check) => self.image_check.extend(check.image_check.iter().cloned()),
            Action::Fail(fail) => self.fail_task = Some(fail.fail_task.clone()),
        }
    }
}

impl Action {
    /// Its name in rules.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Word(Word::ResetBefore) => "reset_before",
            Self::Word(Word::ResetAfter) => "reset_after",
            Self::Word(Word::TruncateAnswer) => "truncate_answer",
            Self::Word(Word::CorruptBody) => "corrupt_body",
            Self::Word(Word::CorruptAnswer) => "corrupt_answer",
            Self::Word(Word::Throttle) => "throttle",
            Self::Word(Word::ExpireToken) => "expire_token",
            Self::Word(Word::Unlisted) => "unlisted",
            Self::Word(Word::HideChecksum) => "hide_checksum",
            Self::Status(_) => "status",
            Self::Number(Number::StallMs(_)) => "stall_ms",
            Self::Number(Number::HoldAnswerMs(_)) => "hold_answer_ms",
            Self::Number(Number::SkewSeconds(_)) => "skew_seconds",
            Self::Number(Number::KeepCreating(_)) => "keep_creating",
            Self::Number(Number::SlowBody(_)) => "slow_body",
            Self::Number(Number::Bandwidth(_)) => "bandwidth",
            Self::Number(Number::Qps(_)) => "qps",
            Self::Fail(_) => "fail_task",
            Self::Check(_) => "image_check",
        }
    }
}
