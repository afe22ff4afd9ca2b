//! Issues TLS certificates for test servers on loopback: a CA that such a server creates for itself, and server
//! certificates for the names that its clients request.
//!
//! Certificates are valid from 1975 to 4096, so that tests with a wrong clock work. Trust the CA in
//! tests only: whoever reads its key can pose as any server to a client that trusts it.
//!
//! ```
//! use build_image_loopback_tls::Authority;
//!
//! let directory = tempfile::tempdir().unwrap();
//! let authority = Authority::open(directory.path()).unwrap();
//! authority.write_certificate(&directory.path().join("ca.pem")).unwrap();
//! let config = authority.server_config(&[], &[]).unwrap();
//! assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);
//! ```
#![forbid(unsafe_code)]

mod authority;
mod files;
mod server;

use std::io;
use std::path::PathBuf;

pub use authority::Authority;

/// Why the CA or a certificate could not be created.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A key or certificate cannot be created.
    #[error("cannot create a key or certificate")]
    Create(#[source] rcgen::Error),
    /// The TLS library refuses the key or certificate.
    #[error("cannot prepare TLS connections")]
    Rustls(#[source] rustls::Error),
    /// A file cannot be read or written.
    #[error("cannot {doing} `{}`", path.display())]
    File {
        /// The operation: `read`, `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The key of the CA belongs to another user, or others may read it.
    #[error(
        "the CA key `{}` belongs to another user or is accessible to others; remove it, and a new \
         CA is created",
        .0.display()
    )]
    Exposed(PathBuf),
    /// The file with the CA holds no usable key or certificate.
    #[error(
        "`{}` holds no usable CA key and certificate; remove it, and a new CA is created",
        .0.display()
    )]
    Unusable(PathBuf),
    /// The file for the CA certificate exists and holds something else.
    #[error(
        "`{}` exists and was not written by this program; name another file for the CA certificate",
        .0.display()
    )]
    Foreign(PathBuf),
    /// A certificate was requested for something that is not a DNS name.
    #[error("`{0}` is not a DNS name that a certificate can have")]
    Name(String),
}

impl TlsError {
    /// For `map_err`: the operation that failed, and the file.
    pub(crate) fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }
}
