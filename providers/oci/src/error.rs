//! Defines the failure of a request: the contract's error plus the information that a retry needs.

use std::time::Duration;

use build_image_plugin_api::{Error, ErrorKind};

/// The action that may make the same call succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryAction {
    /// None.
    GiveUp,
    /// Waiting.
    Backoff,
    /// Requesting a token, or another one.
    RenewToken,
}

/// A failed attempt.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The error for the user.
    pub(crate) error: Box<Error>,
    /// The status that the service answered with; `None` when it did not answer.
    pub(crate) status: Option<u16>,
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
            status: None,
            action: RetryAction::Backoff,
            pause: None,
        }
    }

    /// No answer arrived in time.
    pub(crate) fn timeout(what: &str, limit: Duration) -> Self {
        let message = format!("cannot {what}: nothing happened for {} s", limit.as_secs().max(1));
        Self::network(Error::new(ErrorKind::Timeout, message).with_hint(NETWORK_HINT))
    }

    /// A failure that another attempt cannot change.
    pub(crate) fn stop(error: Error) -> Self {
        Self { error: Box::new(error), status: None, action: RetryAction::GiveUp, pause: None }
    }

    /// An answer that registries never give: another server gave it.
    pub(crate) fn foreign(what: &str) -> Self {
        let message = format!("cannot {what}: the answer is not that of an OCI registry");
        Self::stop(Error::new(ErrorKind::Provider, message).with_hint(
            "look at OCI_REFERENCE and the proxy (HTTPS_PROXY, NO_PROXY): another server may have answered",
        ))
    }

    /// Whether the service answered with this status.
    pub(crate) fn is(&self, status: u16) -> bool {
        self.status == Some(status)
    }
}

/// Hint for a registry that cannot be reached.
pub(crate) const NETWORK_HINT: &str = "check the network, the proxy variables (HTTPS_PROXY, NO_PROXY), and the registry's name and port in OCI_REFERENCE";

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
