//! Defines requests and answers.

use std::{borrow::Cow, io, time::Duration};

use bytes::Bytes;
use futures_core::Stream;
use reqwest::{
    Method,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    Error, ErrorKind, Result, Secret,
    retry::{Failure, LONGEST_REQUESTED, RetryAction},
};

/// A request that is ready to be sent once.
#[must_use]
pub struct Outgoing {
    method: Method,
    url: String,
    headers: Vec<(Cow<'static, str>, String)>,
    body: Body,
}

/// A request's body.
#[non_exhaustive]
pub enum Body {
    /// None.
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// Blocks that are made while they are sent, see [`Body::stream`].
    Stream(BodyStream),
}

/// Blocks of a body that are made while they are sent; [`Body::stream`] makes it.
pub struct BodyStream {
    body: reqwest::Body,
    /// Bytes, when known.
    length: Option<u64>,
}

impl Body {
    /// A stream of blocks, with the sum of their lengths in bytes when it is known. Without it the body is sent in chunks
    /// (RFC 9112 section 7.1). A block that is an error breaks the connection, so that the server does not take the body
    /// for complete. A stream can be sent once: each attempt needs its own.
    pub fn stream<S>(blocks: S, length: Option<u64>) -> Self
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        Self::Stream(BodyStream { body: reqwest::Body::wrap_stream(blocks), length })
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Bytes(text.into())
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::Bytes(Bytes::from_static(text.as_bytes()))
    }
}

impl Outgoing {
    /// A request without headers and body.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self { method, url: url.into(), headers: Vec::new(), body: Body::Empty }
    }

    /// Adds a header. The values of `authorization` and of names that end with `-token` are never logged.
    pub fn header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// A `GET` request.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::GET, url)
    }

    /// A `POST` request. A retry sends it again: see the [guide](crate::book::http#retries).
    pub fn post(url: impl Into<String>) -> Self {
        Self::new(Method::POST, url)
    }

    /// A `PUT` request.
    pub fn put(url: impl Into<String>) -> Self {
        Self::new(Method::PUT, url)
    }

    /// A `DELETE` request.
    pub fn delete(url: impl Into<String>) -> Self {
        Self::new(Method::DELETE, url)
    }

    /// Adds the header `authorization: Bearer TOKEN`, which is never logged.
    pub fn bearer(self, token: &Secret) -> Self {
        self.header("authorization", format!("Bearer {}", token.reveal()))
    }

    /// Sets the body: bytes, a text, a stream, or nothing.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to a JSON document, and the header `content-type`.
    pub fn json(self, document: &Value) -> Self {
        self.header("content-type", "application/json").body(document.to_string())
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn into_request(self, client: &reqwest::Client) -> Result<reqwest::Request> {
        let invalid = |error: &(dyn std::error::Error + 'static)| {
            Error::internal("the request is invalid").caused_by(error)
        };
        let mut builder = client.request(self.method, self.url);
        for (name, value) in self.headers {
            let name = HeaderName::try_from(name.as_ref()).map_err(|error| invalid(&error))?;
            let mut value = HeaderValue::try_from(value).map_err(|error| invalid(&error))?;
            value.set_sensitive(name == "authorization" || name.as_str().ends_with("-token"));
            builder = builder.header(name, value);
        }
        builder = match self.body {
            Body::Empty => builder,
            Body::Bytes(bytes) => builder.body(bytes),
            Body::Stream(BodyStream { body, length: None }) => builder.body(body),
            Body::Stream(BodyStream { body, length: Some(length) }) => {
                builder.header("content-length", length).body(body)
            }
        };
        builder.build().map_err(|error| invalid(&error.without_url()))
    }
}

/// An answer of a server, with any status.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; empty for `HEAD`.
    pub body: Bytes,
}

impl Answer {
    /// An answer with this status, these headers, and this body.
    #[must_use]
    pub fn new(status: u16, headers: HeaderMap, body: impl Into<Bytes>) -> Self {
        Self { status, headers, body: body.into() }
    }

    /// Returns the text of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Parses the body; `None` when it is not JSON.
    #[must_use]
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Returns the pause that the server requests (`Retry-After` in seconds, RFC 9110 section 10.2.3), at most
    /// [`LONGEST_REQUESTED`].
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.header("retry-after").and_then(|text| text.trim().parse().ok());
        seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_REQUESTED))
    }

    /// Parses the body as a document of a type. A body that is another document is a lost answer, which another
    /// attempt may replace. `what` begins the message, such as "cannot create the image".
    ///
    /// # Errors
    /// Network errors that are repeated.
    pub fn parsed<T: DeserializeOwned>(&self, what: &str) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let message = format!("{what}: the answer is incomplete, or another server's");
            Failure::network(Error::new(ErrorKind::Network, message).caused_by(&error))
        })
    }

    /// Returns the failure that a status means by HTTP alone, for services without error codes: 429 and 5xx are
    /// repeated, 429 after the pause that the server requests; other statuses are final.
    #[must_use]
    pub fn by_status(&self, what: &str) -> Failure {
        let (kind, action) = match self.status {
            401 | 403 => (ErrorKind::Auth, RetryAction::GiveUp),
            404 | 410 => (ErrorKind::NotFound, RetryAction::GiveUp),
            409 | 412 => (ErrorKind::Conflict, RetryAction::GiveUp),
            408 => (ErrorKind::Timeout, RetryAction::Backoff),
            413 | 507 => (ErrorKind::Quota, RetryAction::GiveUp),
            429 => (ErrorKind::Throttled, RetryAction::Backoff),
            500.. => (ErrorKind::Provider, RetryAction::Backoff),
            _ => (ErrorKind::Provider, RetryAction::GiveUp),
        };
        let mut error = Error::new(kind, format!("{what}: status {}", self.status));
        error.retryable |= action == RetryAction::Backoff;
        let mut failure = Failure::refused(error, action);
        (failure.status, failure.pause) = (Some(self.status), self.retry_after());
        failure
    }
}
