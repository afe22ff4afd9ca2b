//! Sends a signed request and returns an answer or a failure. All HTTP traffic passes through here. The
//! services decide what to sign and what an answer means; `retry` repeats requests.

use std::{
    sync::{
        Arc, Once,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use build_image_plugin_api::{Error, ErrorKind, Result, retry::LONGEST_REQUESTED};
use bytes::Bytes;
use reqwest::{
    Method,
    header::{AUTHORIZATION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue},
};

use crate::{
    clock::Clock,
    credentials::{Credentials, Keys},
    endpoint::Endpoint,
    error::{Failure, NETWORK_HINT, RetryAction},
    refusal::Refusal,
};

/// Time limit for establishing a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Maximum size of an answer in bytes; the longest list of the services is far shorter.
const MOST_ANSWER: usize = 32 << 20;
/// Interval between two checks for a stalled transfer.
const STALL_CHECK: Duration = Duration::from_millis(500);

/// Connections to one service, its clock, and the credentials that sign.
pub(crate) struct HttpClient {
    client: reqwest::Client,
    pub(crate) clock: Clock,
    pub(crate) credentials: Arc<Credentials>,
}

/// A request that is ready to be sent once.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Empty: not signed.
    pub(crate) authorization: String,
    pub(crate) body: Payload,
}

/// A request's body.
pub(crate) enum Payload {
    Empty,
    Bytes(Bytes),
    /// A stream with its length.
    Stream(reqwest::Body, u64),
}

/// When an attempt is cancelled.
pub(crate) enum Limit {
    /// After this total time.
    Total(Duration),
    /// When the counter has not changed for this time.
    Idle(Arc<AtomicU64>, Duration),
}

/// An answer of a server, with any status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The text of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the status is 2xx.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The pause that the service requests, at most [`LONGEST_REQUESTED`].
    fn asked_pause(&self) -> Option<Duration> {
        let number = |name| self.header(name).and_then(|text| text.trim().parse::<u64>().ok());
        let millis = number("x-oss-qos-delay-time").or_else(|| number("x-acs-retry-after"));
        let pause = millis.map(Duration::from_millis);
        let pause = pause.or_else(|| number("retry-after").map(Duration::from_secs));
        pause.map(|pause| pause.min(LONGEST_REQUESTED))
    }
}

impl HttpClient {
    /// Opens a client of the service at `endpoint`.
    ///
    /// # Errors
    /// When the machine has no usable CA certificates.
    pub(crate) fn open(endpoint: &Endpoint, credentials: Arc<Credentials>) -> Result<Self> {
        static RING: Once = Once::new();
        RING.call_once(|| {
            // A crypto provider that the host has already installed takes precedence.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("build-image-provider-alibaba/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none());
        if endpoint.is_direct() {
            builder = builder.no_proxy();
        }
        if endpoint.is_plain() {
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| {
            Error::new(ErrorKind::Config, "cannot prepare TLS connections")
                .caused_by(&error)
                .with_hint("install the system's CA certificates or name a file in SSL_CERT_FILE")
        })?;
        Ok(Self { client, clock: Clock::default(), credentials })
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
        let request = self.request(outgoing).map_err(Failure::stop)?;
        let host = request.url().authority().to_owned();
        let exchange = async {
            let network_error = |error| broken(what, &host, error);
            let response = self.client.execute(request).await.map_err(network_error)?;
            let status = response.status().as_u16();
            let headers = response.headers().clone();
            let body = body(response, MOST_ANSWER, what, &host).await?;
            Ok::<_, Failure>(Answer { status, headers, body })
        };
        let answer: Answer = match limit {
            Limit::Total(limit) => tokio::time::timeout(limit, exchange)
                .await
                .map_err(|_| Failure::timeout(what, limit))??,
            Limit::Idle(moved, limit) => tokio::select! {
                answer = exchange => answer?,
                () = stalled(&moved, limit) => return Err(Failure::timeout(what, limit)),
            },
        };
        if let Some(date) = answer.header(DATE.as_str()) {
            self.clock.note(date);
        }
        Ok(answer)
    }

    fn request(&self, outgoing: Outgoing) -> Result<reqwest::Request> {
        let unsendable = |error: &(dyn std::error::Error + 'static)| {
            Error::internal("a request could not be put together").caused_by(error)
        };
        let mut builder = self.client.request(outgoing.method, outgoing.url);
        for (name, value) in outgoing.headers {
            let name = HeaderName::try_from(name).map_err(|error| unsendable(&error))?;
            let mut value = HeaderValue::try_from(value).map_err(|error| unsendable(&error))?;
            value.set_sensitive(name.as_str().ends_with("-token"));
            builder = builder.header(name, value);
        }
        if !outgoing.authorization.is_empty() {
            let mut authorization = HeaderValue::try_from(outgoing.authorization)
                .map_err(|error| unsendable(&error))?;
            authorization.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, authorization);
        }
        builder = match outgoing.body {
            Payload::Empty => builder,
            Payload::Bytes(bytes) => builder.body(bytes),
            Payload::Stream(body, length) => builder.header(CONTENT_LENGTH, length).body(body),
        };
        builder.build().map_err(|error| unsendable(&error.without_url()))
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
        failure.pause = answer.asked_pause();
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
        if failure.action == RetryAction::RefreshCredentials && !self.credentials.renew(keys) {
            failure.action = RetryAction::GiveUp;
            failure.error.retryable = false;
        }
        failure
    }
}

/// The body of an answer, unless it is longer than `most` bytes.
async fn body(
    mut response: reqwest::Response,
    most: usize,
    what: &str,
    host: &str,
) -> Result<Bytes, Failure> {
    let too_long = || {
        let message = format!("{what}: the answer of `{host}` is longer than {most} bytes");
        Failure::stop(Error::new(ErrorKind::Provider, message).with_hint(
            "something in between answered for the service: look at the proxy (HTTPS_PROXY, NO_PROXY) and the endpoints",
        ))
    };
    if response.content_length().is_some_and(|length| length > most as u64) {
        return Err(too_long());
    }
    let mut body = bytes::BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(what, host, error))? {
        if body.len() + chunk.len() > most {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Returns when the counter has not moved for `limit`.
async fn stalled(moved: &AtomicU64, limit: Duration) {
    let mut last = (moved.load(Ordering::Relaxed), tokio::time::Instant::now());
    loop {
        tokio::time::sleep(STALL_CHECK.min(limit / 2)).await;
        let now = moved.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, tokio::time::Instant::now());
        } else if last.1.elapsed() >= limit {
            return;
        }
    }
}

/// Hint for a server certificate that is not trusted.
const CERTIFICATE_HINT: &str = "name a file with the server's CA certificate in SSL_CERT_FILE, which replaces the system's CA certificates";

fn broken(what: &str, host: &str, error: reqwest::Error) -> Failure {
    if is_untrusted(&error) {
        let message = format!("{what}: the certificate of `{host}` is not trusted");
        let error = Error::new(ErrorKind::Network, message).caused_by(&error.without_url());
        return Failure::stop(error.with_hint(CERTIFICATE_HINT));
    }
    let says = if error.is_connect() {
        "no connection to"
    } else if error.is_timeout() {
        "no answer in time from"
    } else {
        "the connection broke to"
    };
    let error = error.without_url();
    Failure::network(
        Error::new(ErrorKind::Network, format!("{what}: {says} `{host}`"))
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

    #[test]
    fn a_pause_that_a_service_asks_for_has_a_bound() {
        let pause_of = |name: &'static str, value: &'static str| {
            let headers = [(HeaderName::from_static(name), HeaderValue::from_static(value))];
            let headers = headers.into_iter().collect();
            Answer { status: 503, headers, body: Bytes::new() }.asked_pause()
        };
        assert_eq!(pause_of("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(pause_of("x-oss-qos-delay-time", "250"), Some(Duration::from_millis(250)));
        assert_eq!(pause_of("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"), None);
        for name in ["retry-after", "x-oss-qos-delay-time", "x-acs-retry-after"] {
            for value in ["864000000", "18446744073709551615"] {
                assert_eq!(pause_of(name, value), Some(LONGEST_REQUESTED), "{name}: {value}");
            }
        }
    }

    #[test]
    fn an_answer_without_an_end_is_given_up() {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            while stream.write_all(&[b'x'; 64 << 10]).is_ok() {}
        });
        let endpoint = Endpoint::parse("K", &format!("http://{address}")).unwrap();
        let http = HttpClient::open(&endpoint, Arc::new(Credentials::anonymous())).unwrap();
        let outgoing = Outgoing {
            method: Method::GET,
            url: endpoint.origin(),
            headers: Vec::new(),
            authorization: String::new(),
            body: Payload::Empty,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let limit = Limit::Total(Duration::from_secs(60));
        let failure = runtime.block_on(http.exchange(outgoing, limit, "`X`")).err().unwrap();
        assert!(failure.error.message.contains("is longer than"), "{}", failure.error);
        assert_eq!(failure.action, RetryAction::GiveUp);
        drop((http, runtime));
        server.join().unwrap();
    }
}
