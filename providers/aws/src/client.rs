//! Sends signed requests to a service of the vendor. The services decide what an answer means; `retry` repeats requests.
//!
//! Signing: `aws-sigv4`, the vendor's crate (Signature Version 4).

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials as Keys;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use aws_smithy_runtime_api::client::identity::Identity;
use build_image_plugin_api::{
    Error, Result,
    http::{Answer, Body, Client, Hints, Outgoing},
    retry::{Failure, Policy, RetryAction, retry},
};
use bytes::Bytes;
use reqwest::{Method, header::DATE};
use serde::de::DeserializeOwned;

use crate::{clock::Clock, credentials::Credentials, partition::Api, refusal::Refusal};

/// Advice about connections.
pub(crate) const HINTS: Hints = Hints::new(
    "check the network, the proxy variables (HTTPS_PROXY, NO_PROXY), AWS_ENDPOINT_URL, and that AWS_REGION names a region",
    "name a file with the server's CA certificate in AWS_CA_BUNDLE, which replaces the system's CA certificates",
    "something in between answered for the service: look at the proxy (HTTPS_PROXY, NO_PROXY) and at AWS_ENDPOINT_URL",
);
/// Name of the program in requests.
pub(crate) const AGENT: &str = concat!("build-image-provider-aws/", env!("CARGO_PKG_VERSION"));
/// For single calls of a build.
pub(crate) const CALL: Policy = Policy::call(Duration::from_secs(60));
/// Time limit of one attempt of a call without a large body.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Seconds of clock difference that explain a refusal; the services permit 300.
const SKEW: i64 = 240;

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// URL without a slash at its end.
    pub(crate) url: String,
    /// Region that requests are signed for.
    pub(crate) region: String,
    /// Whether the user chose it.
    pub(crate) chosen: bool,
}

/// A service in a region.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) api: Api,
    pub(crate) endpoint: Endpoint,
    pub(crate) http: Client,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) clock: Arc<Clock>,
}

/// A request before it is signed.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Path and query, encoded, beginning with a slash.
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    /// SHA-256 of the body, hexadecimal, when it is known already.
    pub(crate) sha256: Option<String>,
    pub(crate) limit: Duration,
}

impl Request {
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            sha256: None,
            limit: LIMIT,
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

impl Service {
    /// Calls until it succeeds or the policy gives up. `what` names the operation and its object in messages.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn call(
        &self,
        request: &Request,
        what: &str,
        policy: &Policy,
    ) -> Result<Answer, Failure> {
        retry(policy, async || self.attempt(request, what).await).await
    }

    /// Sends a request once.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn attempt(&self, request: &Request, what: &str) -> Result<Answer, Failure> {
        let keys = self.credentials.current().await?;
        let url = format!("{}{}", self.endpoint.url, request.path);
        let mut outgoing = Outgoing::new(request.method.clone(), &url);
        for (name, value) in self.sign(request, &url, &keys)? {
            outgoing = outgoing.header(name, value);
        }
        for (name, value) in &request.headers {
            outgoing = outgoing.header(*name, value);
        }
        if !request.body.is_empty() || [Method::POST, Method::PUT].contains(&request.method) {
            outgoing = outgoing.body(Body::Bytes(request.body.clone()));
        }
        let answer = self.http.call(outgoing, request.limit, what).await?;
        if let Some(date) = answer.header(DATE.as_str()) {
            self.clock.note(date);
        }
        if answer.is_success() {
            return Ok(answer);
        }
        Err(self.refused(&answer, &keys, what))
    }

    /// Returns the headers that sign a request.
    fn sign(
        &self,
        request: &Request,
        url: &str,
        keys: &Keys,
    ) -> Result<Vec<(&'static str, String)>> {
        let mut settings = SigningSettings::default();
        if self.api == Api::S3 {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let invalid = |error: &(dyn std::error::Error + 'static)| {
            Error::internal("the request cannot be signed").caused_by(error)
        };
        let identity: Identity = keys.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.endpoint.region)
            .name(self.api.name())
            .time(SystemTime::from(self.clock.now()))
            .settings(settings)
            .build()
            .map_err(|error| invalid(&error))?
            .into();
        let body = match &request.sha256 {
            Some(digest) => SignableBody::Precomputed(digest.clone()),
            None => SignableBody::Bytes(&request.body),
        };
        let headers = request.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let signable = SignableRequest::new(request.method.as_str(), url, headers, body)
            .map_err(|error| invalid(&error))?;
        let signed = sign(signable, &parameters).map_err(|error| invalid(&error))?;
        let (headers, _) = signed.into_parts().0.into_parts();
        Ok(headers.iter().map(|header| (header.name(), header.value().to_owned())).collect())
    }

    /// Turns a refusal into a failure, and makes the correction that it asks for.
    fn refused(&self, answer: &Answer, keys: &Keys, what: &str) -> Failure {
        let mut refusal = Refusal::read(answer);
        for secret in [Some(keys.secret_access_key()), keys.session_token()].into_iter().flatten() {
            refusal.message = refusal.message.replace(secret, "…");
        }
        // Answers to HEAD have no code.
        let skewed = self.clock.skew().abs() > SKEW;
        if refusal.code.is_empty() && answer.status == 403 && skewed {
            "RequestTimeTooSkewed".clone_into(&mut refusal.code);
        }
        // EC2 has one code for a wrong clock and for a session that has ended.
        if refusal.code == "RequestExpired" && !skewed {
            "ExpiredToken".clone_into(&mut refusal.code);
        }
        let mut failure = refusal.into_failure(what);
        failure.pause = answer.retry_after();
        let corrected = match failure.action {
            RetryAction::RenewCredentials => self.credentials.renew(keys),
            RetryAction::ResyncClock => {
                let is_plausible =
                    answer.header(DATE.as_str()).is_some_and(|date| self.clock.note(date));
                if is_plausible {
                    self.clock.follow();
                }
                is_plausible
            }
            RetryAction::GiveUp | RetryAction::Backoff => true,
            _ => false,
        };
        if !corrected {
            failure.action = RetryAction::GiveUp;
            failure.error.retryable = false;
        }
        failure
    }

    /// Parses an XML answer.
    ///
    /// # Errors
    /// An answer that the service never gives.
    pub(crate) fn xml<T: DeserializeOwned>(answer: &Answer, what: &str) -> Result<T, Failure> {
        quick_xml::de::from_reader(answer.body.as_ref()).map_err(|error| unreadable(what, &error))
    }

    /// Parses a JSON answer.
    ///
    /// # Errors
    /// An answer that the service never gives.
    pub(crate) fn json<T: DeserializeOwned>(answer: &Answer, what: &str) -> Result<T, Failure> {
        serde_json::from_slice(&answer.body).map_err(|error| unreadable(what, &error))
    }
}

fn unreadable(what: &str, cause: &(dyn std::error::Error + 'static)) -> Failure {
    let failure = HINTS.foreign_answer(format!("{what}: the answer could not be read"));
    Failure::stop(Error::from(failure).caused_by(cause))
}
