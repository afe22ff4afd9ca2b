//! Sends a request and returns an answer or a failure. All HTTP traffic passes through here. The services decide what
//! an answer means; `retry` repeats requests.

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
/// Maximum size of an answer in bytes; the longest list of the services is far shorter.
const MOST_ANSWER: usize = 32 << 20;
/// Longest text of a service that is shown, in characters.
const MOST_TEXT: usize = 400;

/// Connections to the services of a cloud.
pub(crate) struct Http {
    client: reqwest::Client,
    /// For services on this machine, which are never proxied.
    direct: reqwest::Client,
}

/// A request that is ready to be sent once.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body,
}

/// A request's body.
pub(crate) enum Body {
    Empty,
    Json(&'static str, Value),
    /// A stream, with its length when it is known.
    Stream(reqwest::Body, Option<u64>),
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

    /// Turns a refusal into a failure. `what` completes "cannot …".
    pub(crate) fn refuse(&self, what: &str) -> Failure {
        let text = text_of(&self.body);
        let exhausted = text.to_lowercase().contains("quota") || text.contains("media is full");
        let (kind, why, hint) = match self.status {
            401 => (
                ErrorKind::Auth,
                "the credentials are refused",
                Some("check user, password or secret, domain, and project"),
            ),
            403 if exhausted => (ErrorKind::Quota, "a quota is exhausted", Some(QUOTA_HINT)),
            403 => (
                ErrorKind::Auth,
                "permission is denied",
                Some("ask the operator which role the project needs for it"),
            ),
            404 => (ErrorKind::NotFound, "it does not exist", None),
            409 => (ErrorKind::Conflict, "its state does not permit it", None),
            410 => (ErrorKind::NotFound, "it does not exist any more", None),
            413 => (ErrorKind::Quota, "a quota or the storage is exhausted", Some(QUOTA_HINT)),
            415 => (
                ErrorKind::InvalidImage,
                "the service does not accept the data",
                Some(INSPECTED_HINT),
            ),
            429 => (ErrorKind::Throttled, "too many requests", None),
            500..600 => (
                ErrorKind::Provider,
                "the service failed",
                Some("try again later; the operator finds the cause by the request id"),
            ),
            _ => (ErrorKind::Provider, "the service refuses it", None),
        };
        let mut error =
            Error::new(kind, format!("cannot {what}: {why}")).with_context("status", self.status);
        let id = ["x-openstack-request-id", "x-compute-request-id"]
            .iter()
            .find_map(|name| self.header(name));
        if let Some(id) = id {
            error = error.with_context("request_id", id);
        }
        if !text.is_empty() {
            error.causes.push(text);
        }
        error.hint = hint.map(str::to_owned);
        let passing = matches!(self.status, 408 | 429 | 500 | 502..=504);
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

    /// The pause that the service requests, at most [`LONGEST_REQUESTED`].
    fn asked_pause(&self) -> Option<Duration> {
        let seconds = self.header("retry-after").and_then(|text| text.trim().parse().ok());
        seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_REQUESTED))
    }
}

const INSPECTED_HINT: &str = "the service inspects images: check that a raw disk has a valid partition table, or set another OPENSTACK_DISK_FORMAT";
const QUOTA_HINT: &str =
    "delete images that are not needed, or ask the operator for a larger quota";

/// The service's explanation: the message of a JSON error, or the text of an HTML page.
fn text_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let message = serde_json::from_str::<Value>(&text).ok().and_then(|value| {
        let members = value.as_object()?.values().cloned().collect::<Vec<_>>();
        let message =
            |value: &Value| value.get("message").and_then(Value::as_str).map(str::to_owned);
        message(&value).or_else(|| members.iter().find_map(message))
    });
    let text = message.unwrap_or_else(|| {
        let page = text.split("</h1>").last().unwrap_or_default();
        let mut plain = String::new();
        let mut in_tag = false;
        for letter in page.chars() {
            match letter {
                '<' => in_tag = true,
                '>' => in_tag = false,
                _ if !in_tag => plain.push(letter),
                _ => {}
            }
        }
        for (code, letter) in
            [("&#x27;", "'"), ("&quot;", "\""), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")]
        {
            plain = plain.replace(code, letter);
        }
        plain
    });
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|letter| !letter.is_control()).take(MOST_TEXT).collect()
}

impl Http {
    /// Opens connections; `ca_file` replaces the system's CA certificates.
    ///
    /// # Errors
    /// Config errors when the CA certificates cannot be used.
    pub(crate) fn open(ca_file: Option<&str>) -> Result<Self> {
        static RING: Once = Once::new();
        RING.call_once(|| {
            // A crypto provider that the host has already installed takes precedence.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let trusted = ca_file.map(certificates).transpose()?;
        let build = |proxied: bool| {
            let mut builder = reqwest::Client::builder()
                .user_agent(concat!("build-image-provider-openstack/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT)
                .tcp_nodelay(true)
                .tcp_keepalive(Duration::from_secs(30))
                .redirect(reqwest::redirect::Policy::none());
            if !proxied {
                builder = builder.no_proxy();
            }
            if let Some(trusted) = &trusted {
                builder = builder.tls_certs_only(trusted.iter().cloned());
            }
            builder.build().map_err(|error| {
                Error::new(ErrorKind::Config, "cannot prepare TLS connections")
                    .caused_by(&error)
                    .with_hint(
                        "install the system's CA certificates, or name a file in OPENSTACK_CA_FILE",
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
        let client = if is_loopback(request.url()) { &self.direct } else { &self.client };
        let response = client.execute(request).await.map_err(|error| broken(what, &host, error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = body(response, what, &host).await?;
        Ok(Answer { status, headers, body })
    }

    /// As [`Http::send`], with the time limit of a call.
    ///
    /// # Errors
    /// As [`Http::send`].
    pub(crate) async fn call(&self, outgoing: Outgoing, what: &str) -> Result<Answer, Failure> {
        let answer = tokio::time::timeout(CALL_LIMIT, self.send(outgoing, what)).await;
        answer.map_err(|_| Failure::timeout(what, CALL_LIMIT))?
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
            value.set_sensitive(name.as_str().ends_with("-token"));
            builder = builder.header(name, value);
        }
        builder = match outgoing.body {
            Body::Empty => builder,
            Body::Json(kind, value) => builder.header("content-type", kind).body(value.to_string()),
            Body::Stream(body, length) => {
                let builder = builder.header("content-type", "application/octet-stream").body(body);
                match length {
                    Some(length) => builder.header("content-length", length),
                    None => builder,
                }
            }
        };
        builder.build().map_err(|error| unsendable(&error.without_url()))
    }
}

/// Whether the server is on this machine.
fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether requests to a URL can be read in transit.
pub(crate) fn is_exposed(url: &str) -> bool {
    reqwest::Url::parse(url).is_ok_and(|url| url.scheme() == "http" && !is_loopback(&url))
}

fn certificates(path: &str) -> Result<Vec<reqwest::Certificate>> {
    const HINT: &str =
        "name a PEM file with the CA certificates of the cloud in OPENSTACK_CA_FILE or `cacert`";
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
        return Failure::stop(error.with_hint(
            "name a file with the server's CA certificate in OPENSTACK_CA_FILE or `cacert`",
        ));
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
    fn the_explanation_of_a_service_is_found_in_json_and_html() {
        let keystone =
            r#"{"error": {"code": 401, "message": "no  such user", "title": "Unauthorized"}}"#;
        assert_eq!(text_of(keystone.as_bytes()), "no such user");
        let glance = "<html>\n <head>\n  <title>409 Conflict</title>\n </head>\n <body>\n  <h1>409 Conflict</h1>\n  \
                      Image &#x27;a&#x27; is in use<br /><br />\n\n\n </body>\n</html>";
        assert_eq!(text_of(glance.as_bytes()), "Image 'a' is in use");
        assert_eq!(text_of(b""), "");
        assert_eq!(text_of(&[b'x'; 9000]).len(), MOST_TEXT);
    }

    #[test]
    fn statuses_have_kinds_and_only_passing_ones_are_repeated() {
        for (status, body, kind, action) in [
            (401, "", ErrorKind::Auth, RetryAction::RenewToken),
            (403, "", ErrorKind::Auth, RetryAction::GiveUp),
            (403, "over quota", ErrorKind::Quota, RetryAction::GiveUp),
            (404, "", ErrorKind::NotFound, RetryAction::GiveUp),
            (409, "", ErrorKind::Conflict, RetryAction::GiveUp),
            (413, "", ErrorKind::Quota, RetryAction::GiveUp),
            (429, "", ErrorKind::Throttled, RetryAction::Backoff),
            (501, "", ErrorKind::Provider, RetryAction::GiveUp),
            (503, "", ErrorKind::Provider, RetryAction::Backoff),
        ] {
            let failure = answer(status, body).refuse("create image `a`");
            assert_eq!((failure.error.kind, failure.action), (kind, action), "{status}");
            assert!(failure.error.message.starts_with("cannot create image `a`: "));
        }
    }

    #[test]
    fn a_pause_that_a_service_asks_for_has_a_bound() {
        let pause = |text: &'static str| {
            let mut answer = answer(503, "");
            answer.headers.insert("retry-after", HeaderValue::from_static(text));
            answer.refuse("x").pause
        };
        assert_eq!(pause("7"), Some(Duration::from_secs(7)));
        assert_eq!(pause("864000000"), Some(LONGEST_REQUESTED));
        assert_eq!(pause("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }

    #[test]
    fn only_connections_to_other_machines_are_exposed() {
        for (url, exposed) in [
            ("http://10.0.0.1:5000/v3", true),
            ("https://10.0.0.1:5000", false),
            ("http://127.0.0.1:5000", false),
            ("http://localhost/x", false),
            ("http://[::1]:1/", false),
        ] {
            assert_eq!(is_exposed(url), exposed, "{url}");
        }
    }
}
