//! Implements the TLS side of the listener: opens the CA in the state directory, writes its certificate where
//! clients find it, and accepts connections.

use std::path::{Path, PathBuf};
use std::time::Duration;

use build_image_loopback_tls::{Authority, TlsError};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::Config;

/// Time limit for the client's part of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Name of the CA certificate in the state directory.
const CA_FILE: &str = "ca.pem";

/// The TLS acceptor, and the path of the CA certificate.
#[derive(Clone)]
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    pub(super) ca_file: PathBuf,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tls").field("ca_file", &self.ca_file).finish_non_exhaustive()
    }
}

impl Tls {
    /// Prepares TLS when the configuration asks for it. A state directory keeps its CA.
    pub(super) fn prepare(config: &Config, state: &Path) -> Result<Option<Self>, TlsError> {
        let Some(tls) = &config.tls else { return Ok(None) };
        let authority = Authority::open(state)?;
        let server = authority.server_config(&tls.names, &[config.listen.ip()])?;
        let file = tls.ca_file.clone().unwrap_or_else(|| state.join(CA_FILE));
        // Clients run in other directories.
        let ca_file = std::path::absolute(&file).unwrap_or(file);
        authority.write_certificate(&ca_file)?;
        Ok(Some(Self { acceptor: TlsAcceptor::from(server), ca_file }))
    }

    /// Performs the handshake; `None` when the client aborts it or exceeds the time limit.
    pub(super) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let shaken = tokio::time::timeout(HANDSHAKE, self.acceptor.accept(stream)).await;
        shaken.ok()?.ok()
    }
}
