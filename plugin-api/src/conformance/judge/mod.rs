//! Judges: pure functions from what was observed to a verdict.

pub(super) mod build;
pub(super) mod cancel;
pub(super) mod create;
pub(super) mod describe;
pub(super) mod every;
pub(super) mod file;
pub(super) mod undo;

use super::evidence::Ended;

/// What a judge says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Kept; what was seen.
    Pass(String),
    /// Broken; how, and a better remedy than the table's.
    Fail(String, Option<String>),
    /// Not looked at; why.
    Skip(String),
}

impl Judgement {
    fn pass(detail: impl Into<String>) -> Self {
        Self::Pass(detail.into())
    }

    fn fail(detail: impl Into<String>) -> Self {
        Self::Fail(detail.into(), None)
    }

    /// Kept when there is nothing to say against it.
    fn unless(problems: &[String], detail: impl Into<String>) -> Self {
        match problems {
            [] => Self::pass(detail),
            [first] => Self::fail(first),
            [first, others @ ..] => Self::fail(format!("{first} (and {} more)", others.len())),
        }
    }
}

/// The judge of a probe that did not come back.
fn survived(ended: &Ended) -> Result<(), Judgement> {
    match ended {
        Ended::Died(how) => Err(Judgement::fail(how)),
        Ended::Refused(message, hint) => Err(Judgement::Fail(message.clone(), hint.clone())),
        Ended::Answered(_) | Ended::Omitted(_) => Ok(()),
    }
}

/// A judge that may end early.
fn settle(judge: impl FnOnce() -> Result<Judgement, Judgement>) -> Judgement {
    judge().unwrap_or_else(|early| early)
}
