//! Sends a request and returns an answer or a failure. All HTTP traffic passes through here. The callers decide what an
//! answer means; `retry` repeats requests.

use std::{fs, net::IpAddr, sync::Once, time::Duration};

use build_image_plugin_api::{Error, ErrorKind, Result, retry::LONGEST_REQUESTED};
use bytes::Bytes;
use reqwest::{
    Method,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;

use crate::error::{Failure, NETWORK_HINT, RetryAction};

/// Time limit for establishing a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest time until a call without a stream is answered.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(60);
/// Maximum size of an answer in bytes; registries limit manifests to 4 MiB.
const MOST_ANSWER: usize = 8 << 20;
/// Longest text of a registry that is shown, in characters.
const MOST_TEXT: usize = 400;

/// Connections to a registry and its token server.
pub(crate) struct Http {
    client: reqwest::Client,
    /// For servers on this machine, which are never proxied.
    direct: reqwest::Client,
}

/// A request that is ready to be sent once.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: reqwest::Url,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body,
}

/// A request's body.
pub(crate) enum Body {
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// A stream, with its length.
    Stream(reqwest::Body, u64),
}

/// An answer of a server, with any status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// Returns the text of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the status is 2xx.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Parses the body.
    ///
    /// # Errors
    /// When it is not JSON: another server answered.
    pub(crate) fn json(&self, what: &str) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body).map_err(|_| Failure::foreign(what))
    }

    /// Turns a refusal into a failure. `what` completes "cannot …". The codes are those of the OCI distribution
    /// specification 1.1, "Error Codes".
    pub(crate) fn refuse(&self, what: &str) -> Failure {
        let errors = errors_of(&self.body);
        let text = errors.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("; ");
        let text = if errors.is_empty() { plain_text(&self.body) } else { shorten(&text) };
        let has = |code: &str| errors.iter().any(|(found, _)| found == code);
        let full =
            ["no space left", "quota", "insufficient storage", "storage limit", "file too large"];
        let lower = String::from_utf8_lossy(&self.body).to_lowercase();
        // Distribution writes the number of the operating system's error (28: ENOSPC, 122: EDQUOT).
        let full_disk = lower.contains("\"err\":28") || lower.contains("\"err\":122");
        let exhausted = full_disk
            || self.status == 413
            || self.status == 507
            || full.iter().any(|word| lower.contains(word));
        let (kind, why, hint) = explain(self.status, exhausted, has("NAME_UNKNOWN"));
        let mut error =
            Error::new(kind, format!("cannot {what}: {why}")).with_context("status", self.status);
        if !text.is_empty() {
            error.causes.push(text);
        }
        error.hint = hint.map(str::to_owned);
        // Blobs that were sent just now: registries of several servers, and Distribution while another client sends the
        // same blob, may not see them at once.
        let unseen = has("MANIFEST_BLOB_UNKNOWN");
        let passing = !exhausted && (unseen || matches!(self.status, 408 | 429 | 500 | 502..=504));
        error.retryable = passing;
        let action = match self.status {
            401 => RetryAction::RenewToken,
            _ if passing => RetryAction::Backoff,
            _ => RetryAction::GiveUp,
        };
        Failure {
            error: Box::new(error),
            status: Some(self.status),
            action,
            pause: self.asked_pause(),
        }
    }

    /// The pause that the registry requests, at most [`LONGEST_REQUESTED`].
    fn asked_pause(&self) -> Option<Duration> {
        let seconds = self.header("retry-after").and_then(|text| text.trim().parse().ok());
        seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_REQUESTED))
    }
}

/// Returns what a status means: kind, reason, and hint.
fn explain(
    status: u16,
    exhausted: bool,
    no_repository: bool,
) -> (ErrorKind, &'static str, Option<&'static str>) {
    match status {
        _ if exhausted && status != 401 => (
            ErrorKind::Quota,
            "the registry's storage, quota, or request limit is exhausted",
            Some(QUOTA_HINT),
        ),
        401 => (ErrorKind::Auth, "the credentials are refused", Some(AUTH_HINT)),
        403 => (ErrorKind::Auth, "permission is denied", Some(PERMISSION_HINT)),
        404 if no_repository => (
            ErrorKind::NotFound,
            "the registry does not have the repository",
            Some("create the repository, or correct OCI_REFERENCE"),
        ),
        404 => (ErrorKind::NotFound, "it does not exist", None),
        405 => (ErrorKind::Unsupported, "the registry does not permit it", None),
        409 => (
            ErrorKind::Conflict,
            "its state does not permit it",
            Some("another program may write to the repository, or its tags are immutable"),
        ),
        429 => (ErrorKind::Throttled, "too many requests", None),
        300..=399 => {
            (ErrorKind::Provider, "the registry redirects the request", Some(REDIRECT_HINT))
        }
        500..=599 => (
            ErrorKind::Provider,
            "the registry failed",
            Some("try again later; the registry's log has the cause"),
        ),
        _ => (ErrorKind::Provider, "the registry refuses it", None),
    }
}

const QUOTA_HINT: &str = "free space in the registry, or ask its operator for a larger limit; a smaller OCI_CHUNK_SIZE makes requests shorter";
const AUTH_HINT: &str =
    "log in again with `skopeo login` or `docker login`, or set OCI_USERNAME and OCI_PASSWORD";
const PERMISSION_HINT: &str =
    "ask the registry's operator for permission to push to the repository";
const REDIRECT_HINT: &str =
    "write the registry's own name in OCI_REFERENCE; with OCI_TLS=off it may be HTTPS only";

/// The codes and explanations of a registry's errors.
fn errors_of(body: &[u8]) -> Vec<(String, String)> {
    let Ok(document) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let errors = document["errors"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    errors
        .iter()
        .map(|error| {
            let (code, message) = (text(&error["code"]), text(&error["message"]));
            let shown =
                if message.is_empty() { code.clone() } else { format!("{code}: {message}") };
            match &error["detail"] {
                Value::String(detail) => (code, format!("{shown} ({detail})")),
                Value::Object(detail) if !detail.is_empty() => {
                    (code, format!("{shown} ({})", error["detail"]))
                }
                _ => (code, shown),
            }
        })
        .collect()
}

/// The text of another answer, unless it is a page.
fn plain_text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') { String::new() } else { shorten(&text) }
}

fn shorten(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|letter| !letter.is_control()).take(MOST_TEXT).collect()
}

impl Http {
    /// Opens connections; `ca_file` replaces the system's CA certificates;
    /// `any_certificate` accepts every server.
    ///
    /// # Errors
    /// Config errors when the CA certificates cannot be used.
    pub(crate) fn open(ca_file: Option<&str>, any_certificate: bool) -> Result<Self> {
        static RING: Once = Once::new();
        RING.call_once(|| {
            // A crypto provider that the host has already installed takes precedence.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let trusted = ca_file.map(certificates).transpose()?;
        let build = |proxied: bool| {
            let mut builder = reqwest::Client::builder()
                .user_agent(concat!("build-image-provider-oci/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT)
                .tcp_nodelay(true)
                .tcp_keepalive(Duration::from_secs(30))
                .redirect(reqwest::redirect::Policy::none());
            if !proxied {
                builder = builder.no_proxy();
            }
            if any_certificate {
                builder = builder.tls_danger_accept_invalid_certs(true);
            }
            if let Some(trusted) = &trusted {
                builder = builder.tls_certs_only(trusted.iter().cloned());
            }
            builder.build().map_err(|error| {
                Error::new(ErrorKind::Config, "cannot prepare TLS connections")
                    .caused_by(&error)
                    .with_hint(
                        "install the system's CA certificates, or name a file in OCI_CA_FILE",
                    )
            })
        };
        Ok(Self { client: build(true)?, direct: build(false)? })
    }

    /// Sends a request once. `what` completes "cannot …".
    ///
    /// # Errors
    /// Broken connections and time-outs; refusals are answers.
    pub(crate) async fn send(&self, outgoing: Outgoing, what: &str) -> Result<Answer, Failure> {
        let request = self.request(outgoing, what)?;
        let host = request.url().authority().to_owned();
        let is_head = request.method() == Method::HEAD;
        let client = if is_loopback(request.url()) { &self.direct } else { &self.client };
        let response = client.execute(request).await.map_err(|error| broken(what, &host, error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        // The length of an answer to HEAD is that of another answer.
        let body = if is_head { Bytes::new() } else { body(response, what, &host).await? };
        Ok(Answer { status, headers, body })
    }

    /// As [`Http::send`], with a time limit.
    ///
    /// # Errors
    /// As [`Http::send`].
    pub(crate) async fn call(
        &self,
        outgoing: Outgoing,
        limit: Duration,
        what: &str,
    ) -> Result<Answer, Failure> {
        let answer = tokio::time::timeout(limit, self.send(outgoing, what)).await;
        answer.map_err(|_| Failure::timeout(what, limit))?
    }

    fn request(&self, outgoing: Outgoing, what: &str) -> Result<reqwest::Request, Failure> {
        let unsendable = |error: &(dyn std::error::Error + 'static)| {
            Failure::stop(
                Error::internal(format!("cannot {what}: the request is invalid")).caused_by(error),
            )
        };
        let mut builder = self.client.request(outgoing.method, outgoing.url);
        for (name, value) in outgoing.headers {
            let name = HeaderName::try_from(name).map_err(|error| unsendable(&error))?;
            let mut value = HeaderValue::try_from(value).map_err(|error| unsendable(&error))?;
            value.set_sensitive(name.as_str() == "authorization");
            builder = builder.header(name, value);
        }
        builder = match outgoing.body {
            Body::Empty => builder,
            Body::Bytes(bytes) => builder.body(bytes),
            Body::Stream(body, length) => builder.header("content-length", length).body(body),
        };
        builder.build().map_err(|error| unsendable(&error.without_url()))
    }
}

/// Whether the server is on this machine.
pub(crate) fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn certificates(path: &str) -> Result<Vec<reqwest::Certificate>> {
    const HINT: &str = "name a PEM file with the CA certificates of the registry in OCI_CA_FILE";
    let text = fs::read(path).map_err(|error| {
        Error::config(format!("the file with CA certificates `{path}` cannot be read"))
            .caused_by(&error)
            .with_hint(HINT)
    })?;
    let found = reqwest::Certificate::from_pem_bundle(&text).unwrap_or_default();
    if found.is_empty() {
        return Err(Error::config(format!("`{path}` has no CA certificate")).with_hint(HINT));
    }
    Ok(found)
}

/// The body of an answer, unless it is longer than the limit.
async fn body(mut response: reqwest::Response, what: &str, host: &str) -> Result<Bytes, Failure> {
    if response.content_length().is_some_and(|length| length > MOST_ANSWER as u64) {
        return Err(Failure::foreign(what));
    }
    let mut body = bytes::BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(what, host, error))? {
        if body.len() + chunk.len() > MOST_ANSWER {
            return Err(Failure::foreign(what));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn broken(what: &str, host: &str, error: reqwest::Error) -> Failure {
    if is_untrusted(&error) {
        let message = format!("cannot {what}: the certificate of `{host}` is not trusted");
        let error = Error::new(ErrorKind::Network, message).caused_by(&error.without_url());
        return Failure::stop(
            error.with_hint("name a file with the server's CA certificate in OCI_CA_FILE"),
        );
    }
    let why = if error.is_connect() {
        "no connection to"
    } else if error.is_timeout() {
        "no answer in time from"
    } else {
        "the connection broke to"
    };
    let error = error.without_url();
    Failure::network(
        Error::new(ErrorKind::Network, format!("cannot {what}: {why} `{host}`"))
            .caused_by(&error)
            .with_hint(NETWORK_HINT),
    )
}

/// Whether the server's certificate was refused; a retry cannot change that.
fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return true;
        }
        // The source of an I/O error skips the error that it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, headers: HeaderMap::new(), body: Bytes::from(body.to_owned()) }
    }

    #[test]
    fn statuses_and_codes_have_kinds_and_only_passing_ones_are_repeated() {
        let unknown =
            r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known"}]}"#;
        let unseen = r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown"}]}"#;
        let full = r#"{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"Enclosed":{"Op":"write","Err":28}}}]}"#;
        for (status, body, kind, action, text) in [
            (401, "", ErrorKind::Auth, RetryAction::RenewToken, "credentials"),
            (403, "", ErrorKind::Auth, RetryAction::GiveUp, "permission"),
            (
                404,
                unknown,
                ErrorKind::NotFound,
                RetryAction::GiveUp,
                "does not have the repository",
            ),
            (405, "", ErrorKind::Unsupported, RetryAction::GiveUp, "does not permit"),
            (409, "", ErrorKind::Conflict, RetryAction::GiveUp, "state"),
            (413, "", ErrorKind::Quota, RetryAction::GiveUp, "exhausted"),
            (429, "", ErrorKind::Throttled, RetryAction::Backoff, "too many"),
            (301, "", ErrorKind::Provider, RetryAction::GiveUp, "redirects"),
            (500, full, ErrorKind::Quota, RetryAction::GiveUp, "exhausted"),
            (503, "<html>", ErrorKind::Provider, RetryAction::Backoff, "failed"),
            (400, unseen, ErrorKind::Provider, RetryAction::Backoff, "refuses"),
        ] {
            let failure = answer(status, body).refuse("upload");
            assert_eq!((failure.error.kind, failure.action), (kind, action), "{status}");
            assert!(failure.error.message.contains(text), "{}", failure.error);
            assert!(!failure.error.causes.iter().any(|cause| cause.contains('<')));
        }
        let failure = answer(404, unknown).refuse("upload");
        assert_eq!(failure.error.causes, ["NAME_UNKNOWN: repository name not known"]);
    }

    #[test]
    fn a_pause_that_a_registry_asks_for_has_a_bound() {
        let pause = |text: &'static str| {
            let mut answer = answer(503, "");
            answer.headers.insert("retry-after", HeaderValue::from_static(text));
            answer.refuse("x").pause
        };
        assert_eq!(pause("7"), Some(Duration::from_secs(7)));
        assert_eq!(pause("864000000"), Some(LONGEST_REQUESTED));
        assert_eq!(pause("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
