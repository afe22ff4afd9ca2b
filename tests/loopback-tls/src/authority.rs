//! Creates the CA, keeps it in a directory, and signs server certificates.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::server::Certificates;
use crate::{TlsError, files};

/// File with key and certificate of the CA in its directory. One file, so that they always match.
const FILE: &str = "ca-key.pem";
/// First line of the file with the CA certificate. Programs that read PEM skip it.
const MARK: &str = "# CA certificate of a local test server. Trust it in tests only.\n";

/// A CA that a test server creates for itself.
#[derive(Debug)]
pub struct Authority {
    key: KeyPair,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    /// Creates a CA whose key is kept in memory only.
    ///
    /// # Errors
    /// When no random numbers are available.
    pub fn create() -> Result<Self, TlsError> {
        let key = KeyPair::generate().map_err(TlsError::Create)?;
        let signed = params(&key).self_signed(&key).map_err(TlsError::Create)?;
        Ok(Self { key, certificate: signed.der().clone(), pem: signed.pem() })
    }

    /// Opens the CA that is kept in `directory` (file `ca-key.pem`, readable by its owner only); creates it the
    /// first time.
    ///
    /// # Errors
    /// When the file cannot be read or written, belongs to another user, is accessible to others, or holds
    /// something else.
    pub fn open(directory: &Path) -> Result<Self, TlsError> {
        let path = directory.join(FILE);
        if let Some(text) = files::read_private(&path)? {
            return Self::read(&text).ok_or(TlsError::Unusable(path));
        }
        let new = Self::create()?;
        files::create_private(&path, &format!("{}{}", new.key.serialize_pem(), new.pem))?;
        // Another server may have created it first.
        let text = files::read_private(&path)?.unwrap_or_default();
        Self::read(&text).ok_or(TlsError::Unusable(path))
    }

    fn read(text: &str) -> Option<Self> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).ok()?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256).ok()?;
        let certificate = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
        let pem = text[text.find("-----BEGIN CERTIFICATE-----")?..].to_owned();
        Some(Self { key, certificate, pem })
    }

    /// The certificate clients have to trust, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// The certificate clients have to trust, DER.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Writes the certificate that clients have to trust; replaces an older one of this program.
    ///
    /// # Errors
    /// When the file cannot be written, or exists and holds something else.
    pub fn write_certificate(&self, path: &Path) -> Result<(), TlsError> {
        if !files::is_missing_or_marked(path, MARK)? {
            return Err(TlsError::Foreign(path.to_owned()));
        }
        files::replace(path, &format!("{MARK}{}", self.pem))
    }

    /// TLS parameters of a server that speaks HTTP/1.1. It has certificates for `localhost`, 127.0.0.1, `::1`, and
    /// every name below `localhost` (`BUCKET.localhost`); also for `addresses`, for `names`, and for every name
    /// below these.
    ///
    /// # Errors
    /// When one of `names` is not a DNS name.
    pub fn server_config(
        &self,
        names: &[String],
        addresses: &[IpAddr],
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let issuer = Issuer::new(params(&self.key), self.copy_of_key()?);
        let certificates = Certificates::new(issuer, self.certificate.clone(), names, addresses)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Rustls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn copy_of_key(&self) -> Result<KeyPair, TlsError> {
        let key = PrivatePkcs8KeyDer::from(self.key.serialized_der());
        KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)
            .map_err(TlsError::Create)
    }
}

/// The contents of the CA certificate. They depend on the key alone, so that a CA that was kept signs under the
/// same name.
fn params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let short: String =
        key.der_bytes().iter().skip(1).take(4).map(|b| format!("{b:02x}")).collect();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("build-image test CA {short}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// The contents of a server certificate.
pub(crate) fn leaf(name: &str, sans: Vec<SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = sans;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Authority, FILE};
    use crate::TlsError;

    #[test]
    fn a_kept_ca_is_the_same_and_its_key_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let first = Authority::open(directory.path()).unwrap();
        let second = Authority::open(directory.path()).unwrap();
        assert_eq!(first.certificate(), second.certificate());
        assert_eq!(first.certificate_pem(), second.certificate_pem());
        let key = directory.path().join(FILE);
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Authority::open(directory.path()), Err(TlsError::Exposed(_))));
        assert_ne!(Authority::create().unwrap().certificate(), first.certificate());
    }

    #[test]
    fn damaged_and_missing_files_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let text = fs::read_to_string({
            Authority::open(directory.path()).unwrap();
            directory.path().join(FILE)
        });
        let text = text.unwrap();
        for length in [0, 10, text.len() / 3, text.len() - 40] {
            fs::write(directory.path().join(FILE), &text[..length]).unwrap();
            let opened = Authority::open(directory.path());
            assert!(matches!(opened, Err(TlsError::Unusable(_))), "{length}: {opened:?}");
        }
        let gone = directory.path().join("gone");
        assert!(matches!(Authority::open(&gone), Err(TlsError::File { .. })));
    }

    #[test]
    fn a_file_that_is_not_ours_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::create().unwrap();
        let file = directory.path().join("ca.pem");
        authority.write_certificate(&file).unwrap();
        Authority::create().unwrap().write_certificate(&file).unwrap();
        for text in ["", "the certificates of the system\n"] {
            fs::write(&file, text).unwrap();
            assert!(matches!(authority.write_certificate(&file), Err(TlsError::Foreign(_))));
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        let folder = authority.write_certificate(directory.path());
        assert!(matches!(folder, Err(TlsError::Foreign(_))));
    }

    #[test]
    fn what_is_not_a_name_gets_no_certificate() {
        let authority = Authority::create().unwrap();
        for name in ["", "a b", "*.example.com", "127.0.0.1:80", "exämple"] {
            let refused = authority.server_config(&[name.to_owned()], &[]);
            assert!(matches!(refused, Err(TlsError::Name(_))), "{name}");
        }
        authority.server_config(&["oss-cn-hangzhou.aliyuncs.com".to_owned()], &[]).unwrap();
    }
}
