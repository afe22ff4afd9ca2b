//! Injects faults between one client and one HTTP server, as a proxy on loopback that follows rules: resets, lost
//! answers, error statuses, slow, stalled, truncated and corrupted bodies, wrong clocks, refused connections. It
//! serves HTTPS with its own CA, or plain HTTP, and forwards to a server that speaks either. The same rules and
//! seed strike the same requests of a sequence.
//!
//! ```no_run
//! use build_image_fault_proxy::{Options, start};
//!
//! let proxy = start(&Options::new("https://127.0.0.1:8443")).unwrap();
//! proxy.set_rules(r#"[{"method": "PUT", "nth": 2, "fault": "reset_after"}]"#).unwrap();
//! let (url, ca) = (proxy.url(), proxy.ca_file());
//! // … point the client at `url`, let it trust the certificate in `ca` …
//! for request in proxy.requests() {
//!     assert!(request.status != Some(500), "{request:?}");
//! }
//! ```
#![forbid(unsafe_code)]

mod body;
mod control;
mod exchange;
mod fault;
mod listener;
mod log;
mod rules;
mod upstream;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

pub use build_image_loopback_tls::TlsError;
pub use listener::{Running, start};
pub use log::Entry;
pub use rules::RuleError;

/// Options that are set before the proxy starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address to listen on, loopback only; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// The server: `http://HOST[:PORT]` or `https://HOST[:PORT]`.
    pub upstream: String,
    /// PEM file with the CA certificates that verify an https server; `None` uses the system's, or those of
    /// SSL_CERT_FILE and SSL_CERT_DIR.
    pub upstream_ca: Option<PathBuf>,
    /// Serve plain HTTP instead of HTTPS.
    pub plain: bool,
    /// Directory that keeps the CA across restarts; `None` creates a CA for this run.
    pub ca_directory: Option<PathBuf>,
    /// File to write the CA certificate to; `None` writes `ca.pem` into `ca_directory`, or into a temporary
    /// directory that the running proxy removes.
    pub ca_file: Option<PathBuf>,
    /// DNS names to have certificates for besides `localhost`, each including all names below it.
    pub tls_names: Vec<String>,
    /// Rules to start with, JSON.
    pub rules: Option<String>,
    /// Seed of rules with `percent`, unless the rules contain one.
    pub seed: u64,
    /// File to append the request log to.
    pub log: Option<PathBuf>,
}

impl Options {
    /// HTTPS on a port of 127.0.0.1 that the kernel chooses, without rules.
    #[must_use]
    pub fn new(upstream: impl Into<String>) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            upstream: upstream.into(),
            upstream_ca: None,
            plain: false,
            ca_directory: None,
            ca_file: None,
            tls_names: Vec::new(),
            rules: None,
            seed: 0,
            log: None,
        }
    }
}

/// Why the proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is not loopback.
    #[error("`{0}` is not a loopback address; listen on `127.0.0.1` or `[::1]`")]
    NotLoopback(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The requested address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The server's URL cannot be used.
    #[error("`{0}` is not a server; write `http://HOST[:PORT]` or `https://HOST[:PORT]`")]
    Upstream(String),
    /// The CA certificates to verify the server with are missing.
    #[error("no CA certificates for the server in {0}; name a PEM file with `--upstream-ca`")]
    NoRoots(String),
    /// A file cannot be opened.
    #[error("cannot open `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Threads cannot be created.
    #[error("cannot start threads")]
    Runtime(#[source] io::Error),
    /// A temporary directory cannot be created.
    #[error("cannot create a temporary directory")]
    Temporary(#[source] io::Error),
    /// The rules cannot be used.
    #[error("the rules cannot be used")]
    Rules(#[from] RuleError),
    /// The CA or a certificate cannot be created.
    #[error("TLS cannot be served")]
    Tls(#[from] TlsError),
}
