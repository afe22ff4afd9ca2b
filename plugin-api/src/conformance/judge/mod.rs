//! Judges observations: pure functions from observations to a verdict.

pub(super) mod build;
pub(super) mod cancel;
pub(super) mod create;
pub(super) mod describe;
pub(super) mod every;
pub(super) mod file;
pub(super) mod marked;
pub(super) mod undo;

use super::{
    evidence::{Answer, Ended},
    table::Evidence,
};
use crate::Description;

/// Verdict of a judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The requirement is met; what was observed.
    Pass(String),
    /// The requirement is violated; how, and a hint that replaces the table's.
    Fail(String, Option<String>),
    /// Not checked; why.
    Skip(String),
}

impl Judgement {
    pub(super) fn pass(detail: impl Into<String>) -> Self {
        Self::Pass(detail.into())
    }

    pub(super) fn fail(detail: impl Into<String>) -> Self {
        Self::Fail(detail.into(), None)
    }

    /// Passes when there are no problems.
    pub(super) fn unless(problems: &[String], detail: impl Into<String>) -> Self {
        match problems {
            [] => Self::pass(detail),
            [first] => Self::fail(first),
            [first, others @ ..] => Self::fail(format!("{first} (and {} more)", others.len())),
        }
    }
}

/// Settles the checks of a probe that refused the file, or whose process died: one check fails because of that, see
/// [`super::evidence::Death`].
pub(super) fn survived(ended: &Ended) -> Result<(), Judgement> {
    match ended {
        Ended::Died(death) => Err(Judgement::Skip(format!("see `{}`", death.check))),
        Ended::Refused(message, hint) => Err(Judgement::Fail(message.clone(), hint.clone())),
        Ended::Answered(_) | Ended::Omitted(_) => Ok(()),
    }
}

/// What to do when the inventory command fails.
const UNLISTED: &str =
    "the command of `--inventory` must end with status 0, also when it lists nothing";

/// Fails a check that compares what exists, when the inventory command has failed.
pub(super) fn listed(ended: &Ended) -> Result<(), Judgement> {
    match ended {
        Ended::Answered(Answer { unlisted: Some(failure), .. }) => {
            Err(Judgement::Fail(failure.clone(), Some(UNLISTED.to_owned())))
        }
        _ => Ok(()),
    }
}

/// Returns the provider's description.
pub(super) fn description(evidence: &Evidence) -> Result<Description, Judgement> {
    let document = evidence.described()?.document;
    serde_json::from_value(document).map_err(|_| Judgement::Skip("see `size`".to_owned()))
}

/// Why a requirement on what a provider may leave out is not checked; `member` is the part of the description that
/// would declare it.
pub(super) fn undeclared(member: &str) -> String {
    format!("not declared: the description has no {member}")
}

/// Runs a judge that may return early.
pub(super) fn settle(judge: impl FnOnce() -> Result<Judgement, Judgement>) -> Judgement {
    judge().unwrap_or_else(|early| early)
}
