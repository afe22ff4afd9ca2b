//! Defines the observations that probes return from their processes, as documents.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{child::Begun, host::Reports, probe::Probe};
use crate::{Error, Step};

/// A call of a step and its result.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) step: String,
    pub(super) milliseconds: u64,
    /// The answer; null when it failed.
    pub(super) answer: Value,
    pub(super) failure: Option<Failure>,
}

/// The parts of an error that the suite examines.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Failure {
    /// Word of the kind.
    pub(super) kind: String,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// The complete text of the error.
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

    /// Describes how the call ended.
    pub(super) fn ending(&self) -> String {
        match &self.failure {
            Some(failure) => format!("`{}` failed ({}): {}", self.step, failure.kind, failure.text),
            None => format!("`{}` succeeded", self.step),
        }
    }
}

/// Observations of the `describe` probe.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Described {
    pub(super) api_version: String,
    /// The description as a document.
    pub(super) document: Value,
    pub(super) bytes: usize,
    /// Members that no reader uses.
    pub(super) unknown: Vec<String>,
    /// Whether this thread and other threads got the same text.
    pub(super) same: bool,
    /// Threads and files that `describe` left open.
    pub(super) growth: Option<String>,
}

/// Observations of the `create` probe.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Created {
    /// With defaults only.
    pub(super) bare: Call,
    /// Keys that must be set.
    pub(super) required: Vec<String>,
    /// With the given settings.
    pub(super) plain: Call,
    /// `check` without network.
    pub(super) check: Option<Call>,
    #[serde(rename = "told")]
    pub(super) reports: Reports,
}

/// Observations of the `later` probe.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Later {
    /// With a setting of a later version.
    pub(super) setting: Call,
    /// `check` with unknown members; absent where documents cannot be sent as text.
    pub(super) request: Option<Call>,
}

/// Observations of the `malformed` probe.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Malformed {
    /// Malformed documents, by step, and whether the error's code is known.
    pub(super) calls: Vec<(Call, bool)>,
    /// Whether the provider may read only the members that it needs, and not notice that others are malformed.
    pub(super) lenient: bool,
}

/// Observations of the `cycles` probe.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Cycled {
    pub(super) cycles: u32,
    pub(super) growth: Option<String>,
}

/// How many steps of a build can run with the given settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reach {
    /// All steps.
    #[default]
    Whole,
    /// The disk only: the provider declares that it is a stub.
    Stub,
    /// No step that needs the cloud, for this reason.
    Dry(String),
}

/// Observations of the `build` probe.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Built {
    pub(super) reach: Reach,
    pub(super) calls: Vec<Call>,
    /// Problems that `check` found.
    pub(super) refused: Vec<String>,
    /// The name that the image was to have.
    pub(super) image_name: String,
    /// Number of images that were registered.
    pub(super) images: usize,
    /// What existed after the registration and not before the build.
    pub(super) listed: Vec<String>,
    /// Two removals of everything.
    pub(super) discards: Vec<Call>,
    /// Files in the image directory afterwards.
    pub(super) left: Vec<String>,
    #[serde(rename = "told")]
    pub(super) reports: Reports,
}

/// Observations of the `concurrent` probe.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Concurrent {
    pub(super) instances: usize,
    /// Calls that failed.
    pub(super) failed: Vec<Call>,
}

/// A step that was asked to stop.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Stopped {
    pub(super) call: Call,
    /// Whether it was asked before it began, not while it ran.
    pub(super) before: bool,
    /// Milliseconds from the request to the return; absent when it was never asked or never returned.
    pub(super) after: Option<u64>,
    /// Whether it had not returned when the time limit expired.
    pub(super) stuck: bool,
    /// Whether part of the disk was still unread when it was asked.
    pub(super) unread: bool,
}

/// Observations of the `cancel` probe.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Cancelled {
    pub(super) reach: Reach,
    pub(super) stopped: Vec<Stopped>,
    /// Resources that a step created although it knew that it must stop.
    pub(super) begun: Vec<String>,
    /// What existed after everything had been discarded.
    pub(super) left: Vec<String>,
}

/// Observations of the `undo` probe.
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
    /// Number of observed objects of the other build.
    pub(super) seen: usize,
    /// Objects among them that are missing or different.
    pub(super) lost: Vec<String>,
    /// What the failed build left behind.
    pub(super) left: Vec<String>,
}

/// A build that was stopped while it created something, and discarded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Unrecorded {
    /// The resources that the host knew of.
    #[serde(rename = "known")]
    pub(super) announced: Vec<String>,
    /// Whether anything could be observed independently of the provider's reports.
    pub(super) visible: bool,
    /// What existed afterwards.
    pub(super) left: Vec<String>,
    /// The number of objects among it: one object may be seen in several ways.
    pub(super) left_count: usize,
    /// Resources that `discard` failed to remove, or kept.
    pub(super) remaining: Vec<Kept>,
    /// How `discard` failed.
    pub(super) failure: Option<String>,
}

/// A resource that `discard` listed as remaining.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The resource and the reason.
    pub(super) text: String,
    /// Whether the user reads what to do.
    pub(super) has_hint: bool,
}

/// Observations that every probe returns beside its own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Observations of the probe.
    pub(super) seen: Value,
    /// How the inventory command failed.
    pub(super) unlisted: Option<String>,
    /// The first output to standard output and standard error.
    pub(super) noise: Vec<String>,
    /// Properties of the process that were changed.
    pub(super) changes: Vec<String>,
    /// Panics, as the provider logged them.
    pub(super) panics: Vec<String>,
    /// Number of secrets that were searched for.
    pub(super) secrets: usize,
    /// Places where a secret was found.
    pub(super) leaks: Vec<String>,
}

/// How a probe ended.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    /// With an answer.
    Answered(Answer),
    /// The file is not a provider: the reason, and what to do.
    Refused(String, Option<String>),
    /// The process ended or was ended.
    Died(Death),
    /// It was not run, for this reason.
    Omitted(String),
}

/// The end of a process that did not answer.
#[derive(Clone, Debug)]
pub(super) struct Death {
    /// Id of the check that fails because of it.
    pub(super) check: String,
    pub(super) how: String,
}

impl Death {
    /// Attributes the end of a probe to a check: the one that the call belongs to.
    pub(super) fn new(probe: Probe, begun: Begun, how: String) -> Self {
        let step = begun.step.as_str();
        let is_optional = || Step::ALL.iter().any(|one| one.is_optional() && one.name() == step);
        let check = if step == "drop" {
            "cycles".to_owned()
        } else if !begun.check.is_empty() {
            begun.check
        } else if probe == Probe::Build && step == "discard" {
            "discard".to_owned()
        } else if probe == Probe::Optional && is_optional() {
            step.to_owned()
        } else {
            probe.check().to_owned()
        };
        Self { check, how }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_attributed_to_the_check_that_the_call_belongs_to() {
        for (probe, step, check, expected) in [
            (Probe::Describe, "load", "", "loads"),
            (Probe::Create, "check", "", "create"),
            (Probe::Create, "drop", "", "cycles"),
            (Probe::Cycles, "create", "", "cycles"),
            (Probe::Malformed, "check` of the document `{", "", "malformed"),
            (Probe::Build, "register", "", "build"),
            (Probe::Build, "discard", "", "discard"),
            (Probe::Undo, "upload", "", "taken"),
            (Probe::Undo, "discard", "unrecorded", "unrecorded"),
            (Probe::Optional, "inventory", "", "inventory"),
            (Probe::Optional, "upload", "", "undeclared"),
        ] {
            let begun = Begun::new(step, check);
            assert_eq!(Death::new(probe, begun, String::new()).check, expected, "{probe:?}");
        }
    }
}
