//! Opens connections to the server: one per connection of the client, opened on first use and again after the
//! server has closed it.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HeaderValue;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::StartError;
use crate::body::Faulty;

/// Time limit for opening a connection.
const CONNECT: Duration = Duration::from_secs(30);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A server to forward to.
pub(crate) struct Upstream {
    host: String,
    port: u16,
    pub(crate) authority: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Upstream")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

impl Upstream {
    /// Reads `http://HOST[:PORT]` or `https://HOST[:PORT]`.
    pub(crate) fn parse(text: &str, ca: Option<&Path>) -> Result<Self, StartError> {
        let invalid = || StartError::Upstream(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(invalid()),
        };
        let authority = uri.authority().ok_or_else(invalid)?;
        let extra = uri.path_and_query().is_some_and(|path| path.as_str() != "/");
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if extra || authority.as_str().contains('@') || host.is_empty() {
            return Err(invalid());
        }
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let header = HeaderValue::from_str(authority.as_str()).map_err(|_| invalid())?;
        let tls = if secure {
            let name = ServerName::try_from(host.clone()).map_err(|_| invalid())?;
            Some((TlsConnector::from(Arc::new(client_config(ca)?)), name))
        } else {
            None
        };
        Ok(Self { host, port, authority: header, tls })
    }

    async fn open(&self) -> Result<SendRequest<Faulty>, Failure> {
        let address = self.host.parse::<IpAddr>();
        let stream = match address {
            Ok(address) => TcpStream::connect((address, self.port)).await?,
            Err(_) => TcpStream::connect((self.host.as_str(), self.port)).await?,
        };
        let _ = stream.set_nodelay(true);
        match &self.tls {
            Some((connector, name)) => shake(connector.connect(name.clone(), stream).await?).await,
            None => shake(stream).await,
        }
    }

    /// Sends a request over the connection in `slot`, or over a new one.
    pub(crate) async fn send(
        &self,
        slot: &mut Option<SendRequest<Faulty>>,
        mut request: Request<Faulty>,
    ) -> Result<Response<Incoming>, Failure> {
        loop {
            let mut kept = slot.take();
            if let Some(sender) = &mut kept
                && sender.ready().await.is_err()
            {
                kept = None;
            }
            let fresh = kept.is_none();
            let mut sender = match kept {
                Some(sender) => sender,
                None => tokio::time::timeout(CONNECT, self.open()).await??,
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    *slot = Some(sender);
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    // The server closed the kept connection before anything was sent.
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(error.into_error().into()),
                },
            }
        }
    }
}

async fn shake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Faulty>, Failure> {
    let (sender, connection) =
        http1::Builder::new().preserve_header_case(true).handshake(TokioIo::new(stream)).await?;
    // It ends with its last request; that request reports the error.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

fn client_config(ca: Option<&Path>) -> Result<ClientConfig, StartError> {
    let mut roots = RootCertStore::empty();
    let place = ca.map_or("the system".to_owned(), |file| format!("`{}`", file.display()));
    let found: Vec<CertificateDer<'static>> = match ca {
        Some(file) => {
            let text = std::fs::read(file)
                .map_err(|source| StartError::File { path: file.to_owned(), source })?;
            CertificateDer::pem_slice_iter(&text).flatten().collect()
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (added, _) = roots.add_parsable_certificates(found);
    if added == 0 {
        return Err(StartError::NoRoots(place));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StartError::Tls(crate::TlsError::Rustls(error)))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
