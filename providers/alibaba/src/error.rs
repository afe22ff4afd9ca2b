//! What went wrong, seen from a request: the contract's error plus what a retry must know.
//!
//! What a vendor code means is said by the table in `refusal` and nowhere else.

use std::time::Duration;

use build_image_plugin_api::{Error, ErrorKind};

/// What may make the same call succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryAction {
    /// Nothing.
    GiveUp,
    /// Time.
    Backoff,
    /// The server's clock instead of ours.
    ResyncClock,
    /// Fresh keys from where these came from.
    RefreshCredentials,
}

/// A failed attempt.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// For the user.
    pub(crate) error: Box<Error>,
    /// The service's code; empty when it did not answer.
    pub(crate) code: String,
    /// Whether another attempt makes sense.
    pub(crate) cure: RetryAction,
    /// The pause the service asks for.
    pub(crate) pause: Option<Duration>,
}

impl Failure {
    /// The connection or the server's answer broke.
    pub(crate) fn network(error: Error) -> Self {
        Self {
            error: Box::new(error.retryable()),
            code: String::new(),
            cure: RetryAction::Backoff,
            pause: None,
        }
    }

    /// Nobody answered in time.
    pub(crate) fn timeout(what: &str, limit: Duration) -> Self {
        let message = format!("{what}: nothing happened for {} s", limit.as_secs().max(1));
        Self::network(Error::new(ErrorKind::Timeout, message).with_hint(NETWORK_HINT))
    }

    /// An answer the service never gives: somebody else gave it.
    pub(crate) fn foreign(message: String, cause: &(dyn std::error::Error + 'static)) -> Error {
        Error::new(ErrorKind::Provider, message).caused_by(cause).with_hint(
            "something in between answered for the service: look at the proxy (HTTPS_PROXY, NO_PROXY) and the endpoints",
        )
    }

    /// Another attempt would fail as well.
    pub(crate) fn stop(error: Error) -> Self {
        Self { error: Box::new(error), code: String::new(), cure: RetryAction::GiveUp, pause: None }
    }

    /// Whether the service answered with one of these codes.
    pub(crate) fn is(&self, codes: &[&str]) -> bool {
        codes.contains(&self.code.as_str())
    }
}

/// What to do when the cloud cannot be reached.
pub(crate) const NETWORK_HINT: &str = "check the network, the proxy variables (HTTPS_PROXY, NO_PROXY) and that ALIBABA_REGION names a region";

/// Whether the service refused the only attempt of a call: then the call has made nothing. After a
/// connection that broke, an earlier attempt may have.
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
