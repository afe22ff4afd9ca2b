//! Defines the failure of a request: the contract's error plus the information that a retry needs.
//!
//! The meaning of vendor codes is defined only by the table that `refusal` reads.

use std::time::Duration;

use build_image_plugin_api::{Error, ErrorKind};

/// The action that may make the same call succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryAction {
    /// None.
    GiveUp,
    /// Waiting.
    Backoff,
    /// Using the server's clock instead of ours.
    ResyncClock,
    /// Fetching fresh keys from the same source.
    RefreshCredentials,
}

/// A failed attempt.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The error for the user.
    pub(crate) error: Box<Error>,
    /// The service's code; empty when it did not answer.
    pub(crate) code: String,
    /// The action before another attempt, if one makes sense.
    pub(crate) action: RetryAction,
    /// The pause that the service requests.
    pub(crate) pause: Option<Duration>,
}

impl Failure {
    /// The connection or the server's answer was broken.
    pub(crate) fn network(error: Error) -> Self {
        Self {
            error: Box::new(error.retryable()),
            code: String::new(),
            action: RetryAction::Backoff,
            pause: None,
        }
    }

    /// No answer arrived in time.
    pub(crate) fn timeout(what: &str, limit: Duration) -> Self {
        let message = format!("{what}: nothing happened for {} s", limit.as_secs().max(1));
        Self::network(Error::new(ErrorKind::Timeout, message).with_hint(NETWORK_HINT))
    }

    /// An answer that the service never gives: another server gave it.
    pub(crate) fn foreign(message: String, cause: &(dyn std::error::Error + 'static)) -> Error {
        Error::new(ErrorKind::Provider, message).caused_by(cause).with_hint(
            "something in between answered for the service: look at the proxy (HTTPS_PROXY, NO_PROXY) and the endpoints",
        )
    }

    /// A failure that another attempt cannot change.
    pub(crate) fn stop(error: Error) -> Self {
        Self {
            error: Box::new(error),
            code: String::new(),
            action: RetryAction::GiveUp,
            pause: None,
        }
    }

    /// Whether the service answered with one of these codes.
    pub(crate) fn is(&self, codes: &[&str]) -> bool {
        codes.contains(&self.code.as_str())
    }
}

/// Hint for a cloud that cannot be reached.
pub(crate) const NETWORK_HINT: &str = "check the network, the proxy variables (HTTPS_PROXY, NO_PROXY) and that ALIBABA_REGION names a region";

/// Whether the service refused the only attempt of a call, so that the call has created nothing. After a
/// broken connection, an earlier attempt may have.
pub(crate) fn refused_outright(error: &Error) -> bool {
    error.context("code").is_some() && error.context("attempts").is_none() && !error.retryable
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
