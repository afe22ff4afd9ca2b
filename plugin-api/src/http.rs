//! Sends HTTP requests of a provider, each once: with bounds on times and sizes, without redirects, over TLS with
//! `ring`. The provider decides what an answer means; [`retry`](crate::retry::retry) repeats requests. The
//! [guide](crate::book::http) has examples.
//!
//! Types of `reqwest` 0.13 are part of this module, so its version follows that of this crate's minor version.

mod message;
mod proxy;

use std::{net::IpAddr, sync::Once, time::Duration};

use bytes::BytesMut;
use tokio::time::Instant;

use crate::{Error, ErrorKind, Result, retry::Failure};

pub use self::{
    message::{Answer, Body, BodyStream, Outgoing},
    proxy::environment_proxy,
};
/// Types of the libraries behind this module: a provider needs no dependency on them.
pub use {
    bytes::Bytes,
    reqwest::{Method, Url, header},
};

/// Time limit for establishing a connection.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Maximum size of an answer in bytes; lists and documents of cloud services are far shorter.
pub const MAX_ANSWER: usize = 32 << 20;
/// Interval between two looks of [`stalled`].
const STALL_CHECK: Duration = Duration::from_millis(250);

/// Advice for users, in the words of a provider's settings.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Hints {
    /// For a server that cannot be reached, or does not answer.
    pub unreachable: &'static str,
    /// For a server whose certificate is not trusted, or a machine without CA certificates.
    pub untrusted: &'static str,
    /// For an answer that the service never gives: another server gave it.
    pub foreign: &'static str,
}

impl Hints {
    /// The advice for these three cases, each a phrase in the imperative without a full stop.
    #[must_use]
    pub const fn new(
        unreachable: &'static str,
        untrusted: &'static str,
        foreign: &'static str,
    ) -> Self {
        Self { unreachable, untrusted, foreign }
    }

    /// The failure of a request on which nothing happened for this time. `what` begins the message, such as "cannot
    /// create the image".
    #[must_use]
    pub fn timed_out(&self, what: &str, limit: Duration) -> Failure {
        let message = format!("{what}: nothing happened for {} s", limit.as_secs().max(1));
        let error = Error::new(ErrorKind::Timeout, message);
        Failure::network(error.with_hint(self.unreachable))
    }

    /// The failure for an answer that the service never gives.
    #[must_use]
    pub fn foreign_answer(&self, message: impl Into<String>) -> Failure {
        Failure::stop(Error::new(ErrorKind::Provider, message).with_hint(self.foreign))
    }
}

/// How servers are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// Servers on this machine directly, others by the proxy that the environment names.
    ByAddress,
    Environment,
    Direct,
}

/// Configures a [`Client`].
pub struct ClientBuilder {
    user_agent: &'static str,
    hints: Hints,
    route: Route,
    trusted: Option<Vec<reqwest::Certificate>>,
    any_certificate: bool,
}

impl ClientBuilder {
    /// Decides for all servers: with `direct`, no proxy is used; otherwise the one that the environment names
    /// (see [`environment_proxy`]), even for a server on this machine.
    #[must_use]
    pub const fn direct(mut self, direct: bool) -> Self {
        self.route = if direct { Route::Direct } else { Route::Environment };
        self
    }

    /// The CA certificates in a PEM file replace those of the system.
    ///
    /// # Errors
    /// Config errors when the file has none.
    pub fn ca_file(mut self, path: &str) -> Result<Self> {
        let text = std::fs::read(path).map_err(|error| {
            Error::config(format!("the file with CA certificates `{path}` cannot be read"))
                .caused_by(&error)
                .with_hint(self.hints.untrusted)
        })?;
        let found = reqwest::Certificate::from_pem_bundle(&text).unwrap_or_default();
        if found.is_empty() {
            return Err(Error::config(format!("`{path}` has no CA certificate"))
                .with_hint(self.hints.untrusted));
        }
        self.trusted = Some(found);
        Ok(self)
    }

    /// No certificate is trusted: for servers without TLS. The system's CA certificates are not read.
    #[must_use]
    pub fn without_tls(mut self) -> Self {
        self.trusted = Some(Vec::new());
        self
    }

    /// Every certificate is accepted.
    #[must_use]
    pub const fn any_certificate(mut self, accept: bool) -> Self {
        self.any_certificate = accept;
        self
    }

    /// Creates the client.
    ///
    /// # Errors
    /// Config error when the system has no usable CA certificates.
    pub fn build(self) -> Result<Client> {
        static RING: Once = Once::new();
        RING.call_once(|| {
            // A crypto provider that the process has already installed takes precedence.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let client = |proxied: bool| {
            let mut builder = reqwest::Client::builder()
                .user_agent(self.user_agent)
                .connect_timeout(CONNECT_LIMIT)
                .tcp_nodelay(true)
                .tcp_keepalive(Duration::from_secs(30))
                .redirect(reqwest::redirect::Policy::none());
            builder = if proxied { builder.proxy(environment_proxy()) } else { builder.no_proxy() };
            if self.any_certificate {
                builder = builder.tls_danger_accept_invalid_certs(true);
            }
            if let Some(trusted) = &self.trusted {
                builder = builder.tls_certs_only(trusted.iter().cloned());
            }
            builder.build().map_err(|error| {
                Error::config("cannot prepare TLS connections").caused_by(&error).with_hint(
                    format!("install the system's CA certificates, or {}", self.hints.untrusted),
                )
            })
        };
        let client_of = |used: bool, proxied: bool| used.then(|| client(proxied)).transpose();
        Ok(Client {
            proxied: client_of(self.route != Route::Direct, true)?,
            direct: client_of(self.route != Route::Environment, false)?,
            hints: self.hints,
        })
    }
}

/// Connections to the services of a provider.
#[derive(Clone)]
pub struct Client {
    proxied: Option<reqwest::Client>,
    direct: Option<reqwest::Client>,
    hints: Hints,
}

impl Client {
    /// Configures a client. `user_agent` is `name/version`.
    #[must_use]
    pub const fn builder(user_agent: &'static str, hints: Hints) -> ClientBuilder {
        ClientBuilder {
            user_agent,
            hints,
            route: Route::ByAddress,
            trusted: None,
            any_certificate: false,
        }
    }

    /// Sends a request once, without a limit on the time; see [`stalled`]. `what` begins the messages of errors, such as
    /// "cannot create the image".
    ///
    /// # Errors
    /// Broken connections, and answers longer than [`MAX_ANSWER`]; refusals are answers.
    pub async fn send(&self, outgoing: Outgoing, what: &str) -> Result<Answer, Failure> {
        let here = Url::parse(outgoing.url()).is_ok_and(|url| is_loopback(&url));
        let client = match (&self.direct, &self.proxied) {
            (Some(direct), Some(_)) if here => direct,
            (_, Some(client)) | (Some(client), None) => client,
            (None, None) => return Err(Error::internal("no client").into()),
        };
        let request = outgoing.into_request(client).map_err(|mut error| {
            error.message = format!("{what}: {}", error.message);
            error
        })?;
        let (host, is_head) =
            (request.url().authority().to_owned(), request.method() == Method::HEAD);
        let broken = |error| self.broken(what, &host, error);
        let mut response = client.execute(request).await.map_err(broken)?;
        let answer =
            Answer::new(response.status().as_u16(), response.headers().clone(), Bytes::new());
        // The length of an answer to HEAD is that of another answer.
        if is_head {
            return Ok(answer);
        }
        let mut body = BytesMut::new();
        let length = response.content_length().unwrap_or(0);
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if length > MAX_ANSWER as u64 || body.len() + chunk.len() > MAX_ANSWER {
                let message =
                    format!("{what}: the answer of `{host}` is longer than {MAX_ANSWER} bytes");
                return Err(self.hints.foreign_answer(message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { body: body.freeze(), ..answer })
    }

    /// As [`Client::send`], with a limit on the whole time.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn call(
        &self,
        outgoing: Outgoing,
        limit: Duration,
        what: &str,
    ) -> Result<Answer, Failure> {
        let answer = tokio::time::timeout(limit, self.send(outgoing, what)).await;
        answer.map_err(|_| self.hints.timed_out(what, limit))?
    }

    fn broken(&self, what: &str, host: &str, error: reqwest::Error) -> Failure {
        let untrusted = is_untrusted(&error);
        let (connect, timeout) = (error.is_connect(), error.is_timeout());
        let error = error.without_url();
        let error_of = |message: String, hint: &str| {
            Error::new(ErrorKind::Network, message).caused_by(&error).with_hint(hint)
        };
        if untrusted {
            let message = format!("{what}: the certificate of `{host}` is not trusted");
            return Failure::stop(error_of(message, self.hints.untrusted));
        }
        let why = match (connect, timeout) {
            (true, _) => "no connection to",
            (_, true) => "no answer in time from",
            _ => "the connection broke to",
        };
        Failure::network(error_of(format!("{what}: {why} `{host}`"), self.hints.unreachable))
    }
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

/// Whether a server is on this machine.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether requests to a URL can be read in transit.
#[must_use]
pub fn is_exposed(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.scheme() == "http" && !is_loopback(&url))
}

/// Waits until a transfer has stalled, and returns the limit that has passed. `state` returns a number that changes
/// with the progress, and the longest time without a change; `None` while the network is not what is waited for.
pub async fn stalled(mut state: impl FnMut() -> Option<(u64, Duration)>) -> Duration {
    let mut last = (None, Instant::now());
    let mut check = STALL_CHECK;
    loop {
        tokio::time::sleep(check).await;
        let now = state();
        check = now.map_or(STALL_CHECK, |(_, limit)| STALL_CHECK.min(limit / 2));
        match now {
            Some((moved, limit)) if last.0 == Some(moved) => {
                if last.1.elapsed() >= limit {
                    return limit;
                }
            }
            _ => last = (now.map(|(moved, _)| moved), Instant::now()),
        }
    }
}

#[cfg(test)]
mod tests;
