//! Connects to a registry and sends calls with the user's credentials, which are renewed when they are refused.
//!
//! Paths and statuses: OCI distribution specification 1.1, "Endpoints".

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use build_image_plugin_api::{
    Context, Error, ErrorKind, Result, Secret,
    http::{Answer, Body, Outgoing, is_loopback},
    retry::{Failure, Policy, RetryAction, retry},
};
use bytes::Bytes;
use reqwest::{Method, Url};

use crate::{
    challenge::{self, Bearer, Challenge},
    config::{Config, Tls},
    credentials::{Credentials, Proof},
    environment::Environment,
    http::{CALL_LIMIT, Http, Meaning as _},
    reference::Reference,
    token::{Token, TokenRequest},
};

/// Most redirects of one call.
const MOST_REDIRECTS: u32 = 5;

/// What the steps of an instance share.
#[derive(Default)]
pub(crate) struct Session {
    authorization: Mutex<Authorization>,
    /// Whether a server on this machine speaks plain HTTP; `None` while unknown.
    plain: Mutex<Option<bool>>,
}

/// What is sent with calls.
#[derive(Clone, Debug, Default)]
pub(crate) enum Authorization {
    /// Nothing, until the registry asks for something.
    #[default]
    Nothing,
    /// User name and password.
    Password,
    /// A token.
    Token(Token),
}

/// What may make a refused call succeed.
enum Remedy {
    Use(Authorization),
    Request(Bearer),
    /// Nothing; the error replaces that of the call.
    Refuse(Option<Error>),
}

/// A repository of a registry.
pub(crate) struct Registry {
    pub(crate) http: Http,
    pub(crate) reference: Reference,
    pub(crate) credentials: Credentials,
    session: Arc<Session>,
    base: Url,
    policy: Policy,
}

/// A call that can be repeated.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    pub(crate) limit: Duration,
}

impl Call {
    /// A call without headers and body.
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: Vec::new(), body: Bytes::new(), limit: CALL_LIMIT }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets the body.
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

/// Whether a registry answers.
enum Ping {
    /// It does, whatever the answer is.
    Answers,
    /// It asks to be asked later.
    Busy(Failure),
}

impl Registry {
    /// Connects: finds the credentials, and whether a server on this machine speaks TLS.
    ///
    /// # Errors
    /// Config errors; broken connections.
    pub(crate) async fn open(
        context: &Context,
        config: &Config,
        session: &Arc<Session>,
        policy: Policy,
    ) -> Result<Self> {
        let reference = config.reference.clone();
        let credentials =
            Credentials::find(context, &config.access, &reference, &Environment::Process)?;
        let http =
            Http::open(config.access.ca_file.as_deref(), config.access.tls == Tls::Insecure)?;
        let scheme = if config.access.tls == Tls::Off { "http" } else { "https" };
        let base = format!("{scheme}://{}/v2/", reference.host());
        let base = Url::parse(&base).map_err(|error| {
            Error::config(format!("`{}` is not a host", reference.host())).caused_by(&error)
        })?;
        let session = Arc::clone(session);
        let mut registry = Self { http, reference, credentials, session, base, policy };
        if config.access.tls == Tls::Verify && is_loopback(&registry.base) {
            registry.find_scheme().await?;
        }
        Ok(registry)
    }

    /// Uses plain HTTP for a server on this machine that does not speak TLS.
    async fn find_scheme(&mut self) -> Result<(), Failure> {
        let known = *self.session.plain.lock().unwrap_or_else(PoisonError::into_inner);
        let mut plain_base = self.base.clone();
        // Both schemes have hosts, so the change is possible.
        let _ = plain_base.set_scheme("http");
        let plain = match known {
            Some(plain) => plain,
            None => {
                retry(&self.policy, async || match self.ping(&self.base).await {
                    Ok(Ping::Answers) => Ok(false),
                    Ok(Ping::Busy(failure)) => Err(failure),
                    // A certificate that is not trusted is not a reason to do without.
                    Err(failure) if failure.action == RetryAction::GiveUp => Err(failure),
                    Err(failure) => match self.ping(&plain_base).await {
                        Ok(Ping::Answers) => Ok(true),
                        Ok(Ping::Busy(busy)) => Err(busy),
                        Err(_) => Err(failure),
                    },
                })
                .await?
            }
        };
        *self.session.plain.lock().unwrap_or_else(PoisonError::into_inner) = Some(plain);
        if plain {
            self.base = plain_base;
        }
        Ok(())
    }

    /// Finds out whether a server answers at the API's root; it fails when no connection is made.
    async fn ping(&self, url: &Url) -> Result<Ping, Failure> {
        let what = format!("reach the registry `{}`", self.reference.registry);
        let call = Outgoing::new(Method::GET, url.as_str());
        let answer = self.http.call(call, CALL_LIMIT, &what).await?;
        let failure = answer.refuse(&what);
        let is_busy = !answer.is_success() && failure.action == RetryAction::Backoff;
        Ok(if is_busy { Ping::Busy(failure) } else { Ping::Answers })
    }

    /// Whether connections to the registry are not encrypted.
    pub(crate) fn is_plain(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// Whether the registry is on this machine.
    pub(crate) fn is_here(&self) -> bool {
        is_loopback(&self.base)
    }

    /// Returns scheme, host, and port.
    pub(crate) fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    /// Returns the URL of the API's root.
    pub(crate) fn root(&self) -> Url {
        self.base.clone()
    }

    /// Returns a URL below the repository. Repository names and digests need no encoding.
    ///
    /// # Errors
    /// Internal error for a path that is not one.
    pub(crate) fn url(&self, path: &str) -> Result<Url, Failure> {
        self.join(&self.base, &format!("{}/{path}", self.reference.repository))
    }

    /// Resolves the `Location` of an answer, which may be relative (specification, "Pushing blobs").
    ///
    /// # Errors
    /// When it is not a URL.
    pub(crate) fn join(&self, base: &Url, location: &str) -> Result<Url, Failure> {
        base.join(location).map_err(|error| {
            let message = format!("`{location}` of `{}` is not a URL", self.reference.registry);
            Failure::stop(Error::new(ErrorKind::Provider, message).caused_by(&error))
        })
    }

    /// Returns what is sent with calls at present.
    pub(crate) fn authorization(&self) -> Authorization {
        self.session.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn authorize(&self, with: Authorization) {
        *self.session.authorization.lock().unwrap_or_else(PoisonError::into_inner) = with;
    }

    /// Returns the header for a URL. Another host, to which a registry redirects, never gets credentials.
    fn header_for(&self, url: &Url, authorization: &Authorization) -> Option<String> {
        if url.origin() != self.base.origin() {
            return None;
        }
        match (authorization, &self.credentials.proof) {
            (Authorization::Password, Proof::Basic(user, password)) => Some(basic(user, password)),
            (Authorization::Token(token), _) => Some(format!("Bearer {}", token.value.reveal())),
            _ => None,
        }
    }

    /// Sends a call and repeats it as the policy permits. `what` completes "cannot …".
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn call(&self, call: &Call, what: &str) -> Result<Answer, Failure> {
        retry(&self.policy, async || self.once(call, what).await).await
    }

    /// As [`Registry::call`]; `None` when the object does not exist.
    ///
    /// # Errors
    /// As [`Registry::call`].
    pub(crate) async fn find(&self, call: &Call, what: &str) -> Result<Option<Answer>, Failure> {
        match self.call(call, what).await {
            Ok(answer) => Ok(Some(answer)),
            Err(failure) if failure.has_status(404) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Sends a call once; a refused token is renewed for the next attempt. Reading calls follow redirects.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn once(&self, call: &Call, what: &str) -> Result<Answer, Failure> {
        let mut url = call.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let body =
                if call.body.is_empty() { Body::Empty } else { Body::Bytes(call.body.clone()) };
            let (answer, used) = self.send(call, url.clone(), body, what).await?;
            let reads = call.method == Method::GET || call.method == Method::HEAD;
            let is_redirect = matches!(answer.status, 301..=303 | 307 | 308);
            match answer.header("location").filter(|_| reads && is_redirect) {
                Some(location) => {
                    let next = self.join(&url, location)?;
                    if url.scheme() == "https" && next.scheme() != "https" {
                        return Err(answer.refuse(what));
                    }
                    url = next;
                }
                None => return self.judge(answer, used, what).await,
            }
        }
        let message = format!("cannot {what}: the registry redirects without end");
        Err(Failure::stop(Error::new(ErrorKind::Provider, message)))
    }

    /// Sends a body once. The answer has to be judged with the authorization that was used.
    ///
    /// # Errors
    /// Broken connections.
    pub(crate) async fn send(
        &self,
        call: &Call,
        url: Url,
        body: Body,
        what: &str,
    ) -> Result<(Answer, Authorization), Failure> {
        let authorization = self.authorization();
        let mut outgoing = Outgoing::new(call.method.clone(), url.as_str());
        for (name, value) in &call.headers {
            outgoing = outgoing.header(*name, value);
        }
        if let Some(header) = self.header_for(&url, &authorization) {
            outgoing = outgoing.header("authorization", header);
        }
        if matches!(body, Body::Empty) && call.method != Method::GET && call.method != Method::HEAD
        {
            outgoing = outgoing.header("content-length", "0");
        }
        let answer = self.http.call(outgoing.body(body), call.limit, what).await?;
        Ok((answer, authorization))
    }

    /// Turns a refusal into a failure, and obtains what a refused call lacks.
    ///
    /// # Errors
    /// The refusal, or that of the token server.
    pub(crate) async fn judge(
        &self,
        answer: Answer,
        used: Authorization,
        what: &str,
    ) -> Result<Answer, Failure> {
        if answer.is_success() {
            return Ok(answer);
        }
        let mut failure = answer.refuse(what);
        if answer.status == 401 {
            self.meet(&answer, &used, &mut failure).await?;
        }
        self.redact(&mut failure);
        Err(failure)
    }

    /// Obtains what a call lacked that was answered with 401, or decides that nothing helps.
    async fn meet(
        &self,
        answer: &Answer,
        used: &Authorization,
        failure: &mut Failure,
    ) -> Result<(), Failure> {
        let headers = answer.headers.get_all("www-authenticate");
        let challenge = challenge::best(headers.iter().filter_map(|value| value.to_str().ok()));
        match self.decide(challenge, used) {
            Remedy::Use(authorization) => self.authorize(authorization),
            Remedy::Request(bearer) => {
                let earlier = match used {
                    Authorization::Token(token) => token.actions.clone(),
                    _ => BTreeSet::new(),
                };
                let request = TokenRequest {
                    http: &self.http,
                    bearer: &bearer,
                    proof: &self.credentials.proof,
                    repository: &self.reference.repository,
                    plain: self.is_plain(),
                    actions: &earlier,
                };
                tracing::debug!(realm = %bearer.realm, "requesting a token");
                let token = request.send().await.map_err(|mut failure| {
                    self.redact(&mut failure);
                    failure
                })?;
                self.authorize(Authorization::Token(token));
            }
            Remedy::Refuse(error) => {
                failure.action = RetryAction::GiveUp;
                if let Some(mut error) = error {
                    error.causes.clone_from(&failure.error.causes);
                    error.context.clone_from(&failure.error.context);
                    *failure.error = error;
                }
            }
        }
        Ok(())
    }

    fn decide(&self, challenge: Option<Challenge>, used: &Authorization) -> Remedy {
        let registry = &self.reference.registry;
        let first = matches!(used, Authorization::Nothing);
        match (&self.credentials.proof, challenge) {
            (Proof::Helper(helper), _) => {
                Remedy::Refuse(Some(self.credentials.helper_error(helper, registry)))
            }
            (Proof::Anonymous, Some(Challenge::Basic)) => {
                Remedy::Refuse(Some(self.missing_credentials()))
            }
            (Proof::Anonymous, Some(Challenge::Bearer(_))) if !first => {
                Remedy::Refuse(Some(self.missing_credentials()))
            }
            (Proof::Basic(..), Some(Challenge::Basic)) if first => {
                Remedy::Use(Authorization::Password)
            }
            (Proof::Registry(token), Some(Challenge::Bearer(_))) if first => {
                Remedy::Use(Authorization::Token(Token {
                    value: token.clone(),
                    actions: BTreeSet::new(),
                }))
            }
            // What the file has was refused, and it cannot be renewed.
            (Proof::Basic(..), Some(Challenge::Basic))
            | (Proof::Registry(_), Some(Challenge::Bearer(_))) => Remedy::Refuse(None),
            (_, Some(Challenge::Bearer(bearer))) => Remedy::Request(bearer),
            (_, Some(Challenge::Basic)) => {
                let source = &self.credentials.source;
                let message =
                    format!("`{registry}` wants a password, and {source} has a token for it");
                let error = Error::new(ErrorKind::Auth, message)
                    .with_hint("log in again with a password: `skopeo login` or `docker login`");
                Remedy::Refuse(Some(error))
            }
            (_, None) => {
                let message =
                    format!("`{registry}` asks for credentials of a kind that is not supported");
                let instead = "use a registry with Basic or Bearer authentication";
                Remedy::Refuse(Some(Error::unsupported(message, instead)))
            }
        }
    }

    fn missing_credentials(&self) -> Error {
        let registry = &self.reference.registry;
        let message = format!("`{registry}` wants credentials, and none were found for it");
        Error::new(ErrorKind::Auth, message).with_hint(format!(
            "log in with `skopeo login {registry}` or `docker login {registry}`, or set OCI_USERNAME and OCI_PASSWORD"
        ))
    }

    /// Removes secrets from what a server echoes.
    fn redact(&self, failure: &mut Failure) {
        let token = match self.authorization() {
            Authorization::Token(token) => Some(token.value),
            _ => None,
        };
        for secret in self.credentials.secret().into_iter().chain(token.as_ref()) {
            redact(&mut failure.error, secret);
        }
    }
}

fn redact(error: &mut Error, secret: &Secret) {
    let text = secret.reveal();
    if text.len() < Secret::SHORTEST_REDACTED {
        return;
    }
    let texts = error.causes.iter_mut().chain(std::iter::once(&mut error.message));
    for one in texts.filter(|one| one.contains(text)) {
        *one = one.replace(text, "[redacted]");
    }
}

/// Returns the header for a user name and a password (RFC 7617).
pub(crate) fn basic(user: &str, password: &Secret) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal())))
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
