//! Sends requests to a service, with its clock and the credentials that sign. The services decide what to sign and what
//! an answer means; `retry` repeats requests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use build_image_plugin_api::{
    Error, Result,
    http::{self, Answer, Client, Hints, Outgoing},
    retry::{Failure, LONGEST_REQUESTED, Policy, RetryAction},
};
use reqwest::header::DATE;

use crate::{
    clock::Clock,
    credentials::{Credentials, Keys},
    endpoint::Endpoint,
    refusal::Refusal,
};

/// Advice about connections.
pub(crate) const HINTS: Hints = Hints::new(
    "check the network, the proxy variables (HTTPS_PROXY, NO_PROXY) and that ALIBABA_REGION names a region",
    "name a file with the server's CA certificate in SSL_CERT_FILE, which replaces the system's CA certificates",
    "something in between answered for the service: look at the proxy (HTTPS_PROXY, NO_PROXY) and the endpoints",
);
/// For single calls of a build.
pub(crate) const CALL: Policy = Policy::call(Duration::from_secs(60));

/// Connections to one service, its clock, and the credentials that sign.
pub(crate) struct HttpClient {
    client: Client,
    pub(crate) clock: Clock,
    pub(crate) credentials: Arc<Credentials>,
}

/// When an attempt is cancelled.
pub(crate) enum Limit {
    /// After this total time.
    Total(Duration),
    /// When the counter has not changed for this time.
    Idle(Arc<AtomicU64>, Duration),
}

/// The pause that a service requests, at most [`LONGEST_REQUESTED`].
fn asked_pause(answer: &Answer) -> Option<Duration> {
    let number = |name| answer.header(name).and_then(|text| text.trim().parse::<u64>().ok());
    let millis = number("x-oss-qos-delay-time").or_else(|| number("x-acs-retry-after"));
    let pause = millis.map(|millis| Duration::from_millis(millis).min(LONGEST_REQUESTED));
    pause.or_else(|| answer.retry_after())
}

/// The error for an answer that the service never gives: another server gave it.
pub(crate) fn foreign(message: String, cause: &(dyn std::error::Error + 'static)) -> Error {
    Error::from(HINTS.foreign_answer(message)).caused_by(cause)
}

impl HttpClient {
    /// Opens a client of the service at `endpoint`.
    ///
    /// # Errors
    /// When the machine has no usable CA certificates.
    pub(crate) fn open(endpoint: &Endpoint, credentials: Arc<Credentials>) -> Result<Self> {
        const AGENT: &str = concat!("build-image-provider-alibaba/", env!("CARGO_PKG_VERSION"));
        let mut builder = Client::builder(AGENT, HINTS).direct(endpoint.is_direct());
        if endpoint.is_plain() {
            builder = builder.without_tls();
        }
        Ok(Self { client: builder.build()?, clock: Clock::default(), credentials })
    }

    /// Sends a request once. `what` names the operation and object in messages.
    ///
    /// # Errors
    /// Broken connections and time-outs; refusals are answers.
    pub(crate) async fn exchange(
        &self,
        outgoing: Outgoing,
        limit: Limit,
        what: &str,
    ) -> Result<Answer, Failure> {
        let answer = match limit {
            Limit::Total(limit) => self.client.call(outgoing, limit, what).await?,
            Limit::Idle(moved, limit) => tokio::select! {
                answer = self.client.send(outgoing, what) => answer?,
                limit = http::stalled(|| Some((moved.load(Ordering::Relaxed), limit))) => {
                    return Err(HINTS.timed_out(what, limit));
                }
            },
        };
        if let Some(date) = answer.header(DATE.as_str()) {
            self.clock.note(date);
        }
        Ok(answer)
    }

    /// Turns a refusal into a failure, with the pause and the clock that the answer reports.
    pub(crate) fn refuse(
        &self,
        mut refusal: Refusal,
        answer: &Answer,
        ours: &str,
        keys: &Keys,
        what: &str,
    ) -> Failure {
        refusal.message = keys.hide(&refusal.message);
        let echo = refusal.echo.take();
        let mut failure = refusal.into_failure(what);
        failure.pause = asked_pause(answer);
        if failure.code == "SignatureDoesNotMatch"
            && let Some(echo) = echo
        {
            let (says, hint) = if echo.contains(ours.trim()) {
                ("the access key secret is wrong", "check ALIBABA_ACCESS_KEY_SECRET")
            } else {
                ("the request was changed on its way", "check the proxy between here and the cloud")
            };
            failure.error.message = format!("{what}: {says}");
            failure.error.hint = Some(hint.to_owned());
            // The vendor echoes the whole request.
            failure.error.causes.clear();
        }
        if failure.action == RetryAction::ResyncClock {
            let believable = answer.header(DATE.as_str()).is_some_and(|date| self.clock.note(date));
            if believable {
                self.clock.follow();
            } else {
                failure.action = RetryAction::GiveUp;
                failure.error.retryable = false;
            }
        }
        if failure.action == RetryAction::RenewCredentials && !self.credentials.renew(keys) {
            failure.action = RetryAction::GiveUp;
            failure.error.retryable = false;
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_pause_that_a_service_asks_for_has_a_bound() {
        let pause_of = |name: &'static str, value: &'static str| {
            let headers = [(HeaderName::from_static(name), HeaderValue::from_static(value))];
            asked_pause(&Answer::new(503, headers.into_iter().collect(), ""))
        };
        assert_eq!(pause_of("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(pause_of("x-oss-qos-delay-time", "250"), Some(Duration::from_millis(250)));
        for name in ["x-oss-qos-delay-time", "x-acs-retry-after"] {
            for value in ["864000000", "18446744073709551615"] {
                assert_eq!(pause_of(name, value), Some(LONGEST_REQUESTED), "{name}: {value}");
            }
        }
    }
}
