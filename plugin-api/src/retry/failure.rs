//! Defines the failure of an attempt: the error for the user plus the information that a retry needs.

use std::time::Duration;

use crate::Error;

/// The action that may make the same call succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryAction {
    /// None.
    GiveUp,
    /// Waiting.
    Backoff,
    /// Using the server's clock instead of that of this machine.
    ResyncClock,
    /// Obtaining credentials, or fresh ones from the same source.
    RenewCredentials,
}

/// A failed attempt.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The error for the user.
    pub error: Box<Error>,
    /// The HTTP status that the service answered with; `None` when it did not answer.
    pub status: Option<u16>,
    /// The service's error code; empty when it did not answer, or has none.
    pub code: String,
    /// The action before another attempt, if one makes sense.
    pub action: RetryAction,
    /// The pause that the service requests.
    pub pause: Option<Duration>,
}

impl Failure {
    /// A failure that another attempt cannot change.
    #[must_use]
    pub fn stop(error: Error) -> Self {
        Self {
            error: Box::new(error),
            status: None,
            code: String::new(),
            action: RetryAction::GiveUp,
            pause: None,
        }
    }

    /// A broken connection or answer: waiting may help.
    #[must_use]
    pub fn network(error: Error) -> Self {
        Self { action: RetryAction::Backoff, ..Self::stop(error.retryable()) }
    }

    /// A refusal of the service.
    #[must_use]
    pub fn refused(error: Error, action: RetryAction) -> Self {
        Self { action, ..Self::stop(error) }
    }

    /// Whether the service answered with this HTTP status.
    #[must_use]
    pub fn has_status(&self, status: u16) -> bool {
        self.status == Some(status)
    }

    /// Whether the service answered with one of these error codes.
    #[must_use]
    pub fn has_code(&self, codes: &[&str]) -> bool {
        codes.contains(&self.code.as_str())
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        *failure.error
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::stop(error)
    }
}
