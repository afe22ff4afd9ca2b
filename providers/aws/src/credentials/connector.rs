//! Lends the provider's HTTP client to the vendor's chain of credentials, so that both use the same proxies and CA
//! certificates.

use std::time::Duration;

use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
            SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use build_image_plugin_api::{
    Error, ErrorKind,
    http::{Body, Client, Outgoing},
    retry::Failure,
};
use bytes::Bytes;
use reqwest::{Method, Url};

use crate::client::{AGENT, HINTS};

/// Time limit of a request for which the chain sets none.
const LIMIT: Duration = Duration::from_secs(30);
/// Servers on the link of an instance or a container, which no proxy reaches.
const LINK_LOCAL: [&str; 4] =
    ["169.254.169.254", "169.254.170.2", "169.254.170.23", "[fd00:ec2::254]"];

/// Makes connections for the chain.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    /// File with CA certificates.
    pub(crate) ca_bundle: Option<String>,
    /// Longest time of a request.
    limit: Duration,
}

impl Connector {
    /// Trusts the certificates of a file, or those of the system.
    pub(crate) const fn new(ca_bundle: Option<String>) -> Self {
        Self { ca_bundle, limit: LIMIT }
    }

    /// A new client for every request: requests of several runtimes must not share connections, and the chain sends
    /// few.
    fn client(&self, url: &str) -> Result<Client, Error> {
        let parsed = Url::parse(url)
            .map_err(|error| Error::config(format!("`{url}` is not a URL")).caused_by(&error))?;
        let mut builder = Client::builder(AGENT, HINTS);
        if parsed.host_str().is_some_and(|host| LINK_LOCAL.contains(&host)) {
            builder = builder.direct(true);
        }
        if parsed.scheme() == "http" {
            builder = builder.without_tls();
        } else if let Some(file) = &self.ca_bundle {
            builder = builder.ca_file(file)?;
        }
        builder.build()
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, Failure> {
        let client = self.client(request.uri())?;
        let method = Method::from_bytes(request.method().as_bytes()).map_err(|error| {
            Error::internal("a request for credentials has an invalid method").caused_by(&error)
        })?;
        let mut outgoing = Outgoing::new(method, request.uri());
        for (name, value) in request.headers() {
            outgoing = outgoing.header(name.to_owned(), value);
        }
        if let Some(body) = request.body().bytes().filter(|body| !body.is_empty()) {
            outgoing = outgoing.body(Body::Bytes(Bytes::copy_from_slice(body)));
        }
        let answer = client.call(outgoing, self.limit, "cannot fetch credentials").await?;
        let status = StatusCode::try_from(answer.status)
            .map_err(|error| Error::internal("an answer has no status").caused_by(&error))?;
        let mut response = HttpResponse::new(status, SdkBody::from(answer.body));
        for (name, value) in &answer.headers {
            if let Ok(value) = value.to_str() {
                let _ =
                    response.headers_mut().try_append(name.as_str().to_owned(), value.to_owned());
            }
        }
        Ok(response)
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connector = self.clone();
        HttpConnectorFuture::new(async move {
            connector.send(request).await.map_err(|failure| {
                let (kind, retryable) = (failure.error.kind, failure.error.retryable);
                let source = Box::new(Problem(*failure.error));
                match kind {
                    ErrorKind::Timeout => ConnectorError::timeout(source),
                    _ if retryable => ConnectorError::io(source),
                    _ => ConnectorError::user(source),
                }
            })
        })
    }
}

impl HttpClient for Connector {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let limits = [settings.connect_timeout(), settings.read_timeout()];
        let limit = limits.iter().flatten().sum::<Duration>();
        let limit = if limit.is_zero() { LIMIT } else { limit };
        SharedHttpConnector::new(Self { limit, ..self.clone() })
    }
}

/// An error as a cause.
#[derive(Debug)]
struct Problem(Error);

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)?;
        self.0.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Problem {}
