//! A finding of a check.

use serde::{Deserialize, Serialize};

use crate::model::Evidence;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something that a user may want to know.
    Note,
    /// The system may not work, works for some machines only, or leaks data.
    Warning,
    /// The system does not boot, or is not reachable.
    #[default]
    Error,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The name of the check, which stays the same.
    pub id: String,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, on which object: a fragment without a full stop.
    pub message: String,
    /// What to do, in the imperative.
    pub remedy: String,
    /// Where it was found.
    pub evidence: Vec<Evidence>,
}

impl Finding {
    pub(crate) fn new(id: &str, severity: Severity, message: String, remedy: &str) -> Self {
        Self {
            id: id.to_owned(),
            severity,
            message,
            remedy: remedy.to_owned(),
            evidence: Vec::new(),
        }
    }

    pub(crate) fn error(id: &str, message: String, remedy: &str) -> Self {
        Self::new(id, Severity::Error, message, remedy)
    }

    pub(crate) fn warning(id: &str, message: String, remedy: &str) -> Self {
        Self::new(id, Severity::Warning, message, remedy)
    }

    pub(crate) fn note(id: &str, message: String, remedy: &str) -> Self {
        Self::new(id, Severity::Note, message, remedy)
    }

    pub(crate) fn at(mut self, evidence: &Evidence) -> Self {
        self.evidence.push(evidence.clone());
        self
    }
}
