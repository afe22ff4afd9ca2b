//! What probes bring back from their processes, as documents.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::host::Told;
use crate::Error;

/// One call of a step and what came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) step: String,
    pub(super) milliseconds: u64,
    /// The answer; null when it failed.
    pub(super) answer: Value,
    pub(super) failure: Option<Failure>,
}

/// An error as the suite looks at it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Failure {
    /// Word of the kind.
    pub(super) kind: String,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// Everything it says.
    pub(super) text: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let hint = error.hint.clone();
        let parts = [error.to_string(), error.causes.join("; "), hint.clone().unwrap_or_default()];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Self {
            kind: error.kind.code().to_owned(),
            message: error.message.clone(),
            hint,
            text: parts.join("; "),
        }
    }
}

impl Call {
    pub(super) fn is(&self, kind: &str) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.kind == kind)
    }

    /// How it ended, in words.
    pub(super) fn ending(&self) -> String {
        match &self.failure {
            Some(failure) => format!("`{}` failed ({}): {}", self.step, failure.kind, failure.text),
            None => format!("`{}` succeeded", self.step),
        }
    }
}

/// What the `describe` probe saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Described {
    pub(super) api_version: String,
    /// The description as a document.
    pub(super) document: Value,
    pub(super) bytes: usize,
    /// Members nobody knows.
    pub(super) unknown: Vec<String>,
    /// The same text from the same thread, and from others.
    pub(super) same: bool,
    /// Threads and files that describing left behind.
    pub(super) growth: Option<String>,
}

/// What the `create` probe saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Created {
    /// With defaults only.
    pub(super) bare: Call,
    /// Keys that must be set.
    pub(super) required: Vec<String>,
    /// With the settings at hand.
    pub(super) plain: Call,
    /// `check` without network.
    pub(super) check: Option<Call>,
    pub(super) told: Told,
}

/// What the `later` probe saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Later {
    /// With a setting of a later version.
    pub(super) setting: Call,
    /// `check` with unknown members; absent where documents cannot be written by hand.
    pub(super) request: Option<Call>,
}

/// What the `malformed` probe saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Malformed {
    /// Malformed documents, by step, and whether the error's code is known.
    pub(super) calls: Vec<(Call, bool)>,
    /// It may read only the members it needs, and not see that others are malformed.
    pub(super) lenient: bool,
}

/// What the `cycles` probe saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Cycled {
    pub(super) cycles: u32,
    pub(super) growth: Option<String>,
}

/// How far a build can go with what is at hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reach {
    /// All steps.
    #[default]
    Whole,
    /// The disk only: the provider says of itself that it is a stub.
    Stub,
    /// No step that needs the cloud, because of this.
    Dry(String),
}

/// What the `build` probe saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Built {
    pub(super) reach: Reach,
    pub(super) calls: Vec<Call>,
    /// Problems that `check` found.
    pub(super) refused: Vec<String>,
    /// Images that were registered.
    pub(super) images: usize,
    /// Removing everything, and once more.
    pub(super) discards: Vec<Call>,
    /// Files in the image directory after that.
    pub(super) left: Vec<String>,
    pub(super) told: Told,
}

/// What the `concurrent` probe saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Concurrent {
    pub(super) instances: usize,
    /// Calls that failed.
    pub(super) failed: Vec<Call>,
}

/// One step that was asked to stop.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Stopped {
    pub(super) call: Call,
    /// Before it began, or while it ran.
    pub(super) before: bool,
    /// Milliseconds from the request to the return; absent when it was never asked or never returned.
    pub(super) after: Option<u64>,
    /// It had not returned when the patience ended.
    pub(super) stuck: bool,
    /// There was more of the disk to read when it was asked.
    pub(super) unread: bool,
}

/// What the `cancel` probe saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Cancelled {
    pub(super) reach: Reach,
    pub(super) stopped: Vec<Stopped>,
    /// What was created by a step that knew it was to stop.
    pub(super) begun: Vec<String>,
    /// What was there after everything had been discarded.
    pub(super) left: Vec<String>,
}

/// What the `undo` probe saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Undone {
    pub(super) reach: Reach,
    pub(super) taken: Option<Taken>,
    pub(super) unrecorded: Vec<Unrecorded>,
}

/// A failed and discarded build, of a name that another build took after `check` found it free.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Taken {
    /// Why the other build could not be made.
    pub(super) obstacle: Option<String>,
    /// Things of the other build that could be seen.
    pub(super) seen: usize,
    /// What is missing or different of them.
    pub(super) lost: Vec<String>,
    /// What the failed build left behind.
    pub(super) left: Vec<String>,
}

/// A build that was stopped while it created something, and discarded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Unrecorded {
    /// The resources the host knew of.
    pub(super) known: Vec<String>,
    /// Whether anything beside what the provider says could be looked at.
    pub(super) visible: bool,
    /// What was there afterwards.
    pub(super) left: Vec<String>,
    /// `discard` failed, or kept something.
    pub(super) remaining: Vec<String>,
}

/// What every probe brings back beside its own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Answer {
    /// What the probe saw.
    pub(super) seen: Value,
    /// Beginnings of what was written to standard output and standard error.
    pub(super) noise: Vec<String>,
    /// Properties of the process that were changed.
    pub(super) changes: Vec<String>,
    /// Panics, as the provider logged them.
    pub(super) panics: Vec<String>,
    /// Places where a secret was seen.
    pub(super) leaks: Vec<String>,
}

/// How a probe ended.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    /// With an answer.
    Answered(Answer),
    /// The file is no provider: what, and what to do.
    Refused(String, Option<String>),
    /// The process ended or was ended.
    Died(String),
    /// It was not run, because of this.
    Omitted(String),
}
