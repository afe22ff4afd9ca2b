//! Sends the HTTP requests of the core: a GET with its redirects. Classifies failures as retryable or permanent.

use std::{error::Error as StdError, sync::Once, time::Duration};

use build_image_plugin_api::{Exhausted, http::environment_proxy};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{
        ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
        RETRY_AFTER,
    },
};

use crate::{
    error::{Error, Result, Stage},
    settings::keys::DOWNLOAD_TIMEOUT,
    source::address::display_url,
};

/// Maximum number of redirects for one request.
const REDIRECTS: usize = 10;
/// Time limit for establishing a connection.
const CONNECT: Duration = Duration::from_secs(20);
const TLS_HINT: &str = "name a file with the server's CA certificate in SSL_CERT_FILE, which replaces the system's CA certificates; IGNORE_DOWNLOAD_URL_TLS accepts any certificate, and then whoever is on the way can change what is sent";

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// Whether the same request may succeed later.
    pub(super) retryable: bool,
    /// The pause that the server requested.
    pub(super) pause: Option<Duration>,
    /// The status code, if the server answered.
    pub(super) status: Option<u16>,
}

impl Failure {
    /// A failure that is not retryable.
    pub(super) fn stop(error: Error) -> Self {
        Self { error, retryable: false, pause: None, status: None }
    }

    /// A retryable failure.
    pub(super) fn transient(error: Error) -> Self {
        Self {
            error: Error { retryable: true, ..error },
            retryable: true,
            ..Self::stop(Error::interrupted())
        }
    }

    /// The failure after the last of several attempts.
    pub(super) fn after(mut self, attempts: u64, elapsed: Duration) -> Self {
        if self.retryable && attempts > 1 {
            self.error.exhausted = Some(Exhausted::new(attempts, elapsed));
        }
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::stop(error)
    }
}

/// An HTTP client.
pub(super) struct HttpClient {
    client: Client,
    /// Longest time without any incoming data.
    stall: Duration,
}

impl HttpClient {
    /// Creates a client. `any_certificate` disables the verification of certificates.
    pub(super) fn open(any_certificate: bool, stall: Duration) -> Result<Self> {
        static RING: Once = Once::new();
        RING.call_once(|| {
            // Another part of this process may have installed a provider; that one is kept.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let builder = Client::builder()
            .user_agent(concat!("build-image/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT.min(stall))
            .proxy(environment_proxy())
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .tls_danger_accept_invalid_certs(any_certificate);
        let client = builder.build().map_err(|error| {
            Error::new(Stage::Source, "cannot prepare downloads")
                .caused_by(&error)
                .hint("install the system's CA certificates or name a file in SSL_CERT_FILE")
        })?;
        Ok(Self { client, stall })
    }

    /// Sends a GET and follows redirects.
    pub(super) async fn get(
        &self,
        url: &Url,
        headers: &[(HeaderName, String)],
    ) -> Result<Response, Failure> {
        let mut at = url.clone();
        let mut headers = headers.to_vec();
        for _ in 0..=REDIRECTS {
            let response = self.once(&at, &headers).await?;
            let Some(next) = redirected(&at, &response)? else { return Ok(response) };
            tracing::debug!(from = display_url(&at), to = display_url(&next), "redirected");
            if next.origin() != at.origin() {
                // Credentials of one server are not for another.
                headers.retain(|(name, _)| *name != AUTHORIZATION);
            }
            at = next;
        }
        let text = format!("`{}` redirects more than {REDIRECTS} times", display_url(url));
        Err(Failure::stop(
            Error::new(Stage::Source, text).hint("open it in a browser and take the last address"),
        ))
    }

    async fn once(&self, url: &Url, headers: &[(HeaderName, String)]) -> Result<Response, Failure> {
        let mut map = HeaderMap::new();
        // Lengths and digests are those of the file, not of a compressed representation.
        map.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, text) in headers {
            if let Ok(value) = HeaderValue::from_str(text) {
                map.insert(name, value);
            }
        }
        let sent = self.client.get(url.clone()).headers(map).send();
        match tokio::time::timeout(self.stall, sent).await {
            Ok(answer) => answer.map_err(|error| request_failure(url, error)),
            Err(_) => Err(self.stalled(url)),
        }
    }

    /// Posts a form once, without retries.
    pub(super) async fn post(
        &self,
        url: &Url,
        form: &[(&str, String)],
    ) -> Result<Response, Failure> {
        let body = form_body(form);
        let kind = "application/x-www-form-urlencoded";
        let sent = self.client.post(url.clone()).header(CONTENT_TYPE, kind).body(body).send();
        match tokio::time::timeout(self.stall, sent).await {
            Ok(answer) => answer.map_err(|error| request_failure(url, error)),
            Err(_) => Err(self.stalled(url)),
        }
    }

    /// Returns the next bytes of a body; `None` at its end.
    pub(super) async fn chunk(
        &self,
        url: &Url,
        response: &mut Response,
    ) -> Result<Option<bytes::Bytes>, Failure> {
        match tokio::time::timeout(self.stall, response.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| request_failure(url, error)),
            Err(_) => Err(self.stalled(url)),
        }
    }

    fn stalled(&self, url: &Url) -> Failure {
        let text =
            format!("`{}`: nothing arrived for {} s", display_url(url), self.stall.as_secs());
        Failure::transient(Error::new(Stage::Source, text).hint(format!(
            "check the network and the proxy variables, or allow more with {DOWNLOAD_TIMEOUT}"
        )))
    }
}

/// Encodes fields like a browser (URL Standard, application/x-www-form-urlencoded).
fn form_body(form: &[(&str, String)]) -> String {
    let Ok(mut url) = Url::parse("http://form") else { return String::new() };
    url.query_pairs_mut().extend_pairs(form);
    url.query().unwrap_or_default().to_owned()
}

/// Returns the target of a redirect.
fn redirected(from: &Url, response: &Response) -> Result<Option<Url>, Failure> {
    let redirect = [301, 302, 303, 307, 308].contains(&response.status().as_u16());
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let (true, Some(location)) = (redirect, location) else { return Ok(None) };
    let redirect_error = |what: &str, hint: &str| {
        let text = format!("`{}` redirects to {what}", display_url(from));
        Failure::stop(Error::new(Stage::Source, text).hint(hint))
    };
    let invalid_target_error =
        || redirect_error("an address that is none", "ask who runs the server");
    let mut next = from.join(location).map_err(|_| invalid_target_error())?;
    if !["http", "https"].contains(&next.scheme()) {
        return Err(invalid_target_error());
    }
    if from.scheme() == "https" && next.scheme() == "http" {
        let what = format!("`{}`, from https to http", display_url(&next));
        return Err(redirect_error(&what, "give an https address that stays one"));
    }
    // The credentials of the request are kept for the same origin only.
    if next.origin() == from.origin() && next.username().is_empty() {
        let _ = next.set_username(from.username());
        let _ = next.set_password(from.password());
    }
    Ok(Some(next))
}

/// The failure for an answer that is not a file.
pub(super) fn refusal(url: &Url, response: &Response) -> Failure {
    let status = response.status();
    let text = format!("`{}`: the server answers {status}", display_url(url));
    let retryable = [408, 425, 429, 500, 502, 503, 504].contains(&status.as_u16());
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "give https://USER:PASSWORD@…, or a fresh address if this one was signed for a time"
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => "check the address",
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            "put USER:PASSWORD@ into the address of the proxy, as in HTTPS_PROXY"
        }
        _ if retryable => "ask who runs the server whether it is overloaded, or use a mirror",
        _ => "ask who runs the server",
    };
    let error = Error::new(Stage::Source, text).hint(hint);
    let mut failure = if retryable { Failure::transient(error) } else { Failure::stop(error) };
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds = retry_after.and_then(|text| text.trim().parse().ok());
    failure.pause = seconds.map(Duration::from_secs);
    failure.status = Some(status.as_u16());
    failure
}

fn request_failure(url: &Url, error: reqwest::Error) -> Failure {
    let tls = is_tls(&error);
    let connect = error.is_connect();
    let error = error.without_url();
    let address = display_url(url);
    if tls {
        let text = format!("`{address}`: no trustworthy TLS connection");
        let error = Error::new(Stage::Source, text).caused_by(&error).hint(TLS_HINT);
        return Failure::stop(error);
    }
    let problem = if connect { "no connection to its server" } else { "the connection broke" };
    Failure::transient(
        Error::new(Stage::Source, format!("`{address}`: {problem}"))
            .caused_by(&error)
            .hint("check the network and the proxy variables (HTTPS_PROXY, HTTP_PROXY, NO_PROXY)"),
    )
}

/// Returns whether the peer failed authentication or does not speak TLS.
fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        // An I/O error skips the error it wraps when it is asked for its source.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}
