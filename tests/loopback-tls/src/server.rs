//! Selects the certificate of a connection: clients that send a name get one for that name, created on the first
//! request. A wildcard is not possible: OpenSSL accepts none directly below `localhost`.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{Issuer, KeyPair, SanType};
use rustls::crypto::ring::sign;
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};

use crate::{TlsError, authority};

/// Maximum number of certificates that are kept; clients decide how many names they request.
const KEPT: usize = 256;

/// Server certificates, created on demand.
pub(crate) struct Certificates {
    issuer: Issuer<'static, KeyPair>,
    authority: CertificateDer<'static>,
    key: KeyPair,
    signing: Arc<dyn SigningKey>,
    /// Lower case; each stands for itself and for all names below it.
    names: Vec<String>,
    default: Arc<CertifiedKey>,
    made: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Certificates").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Certificates {
    pub(crate) fn new(
        issuer: Issuer<'static, KeyPair>,
        authority: CertificateDer<'static>,
        names: &[String],
        addresses: &[IpAddr],
    ) -> Result<Self, TlsError> {
        let key = KeyPair::generate().map_err(TlsError::Create)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = sign::any_supported_type(&der).map_err(TlsError::Rustls)?;
        let mut accepted = vec!["localhost".to_owned()];
        for name in names {
            let is_name =
                name.parse::<IpAddr>().is_err() && DnsName::try_from(name.as_str()).is_ok();
            if !is_name {
                return Err(TlsError::Name(name.clone()));
            }
            accepted.push(name.to_lowercase());
        }
        let mut sans = Vec::new();
        for name in &accepted {
            sans.push(dns(name)?);
        }
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let more = addresses.iter().filter(|address| !loopback.contains(address));
        sans.extend(loopback.iter().chain(more).copied().map(SanType::IpAddress));
        let default = issue(&issuer, &authority, &key, &signing, "localhost", sans)?;
        let made = Mutex::default();
        Ok(Self { issuer, authority, key, signing, names: accepted, default, made })
    }

    fn is_below(&self, host: &str) -> bool {
        self.names
            .iter()
            .any(|name| host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.')))
    }

    fn of(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = made.get(host) {
            return Some(Arc::clone(found));
        }
        let sans = vec![dns(host).ok()?];
        let new = issue(&self.issuer, &self.authority, &self.key, &self.signing, host, sans);
        let new = new.ok()?;
        if made.len() < KEPT {
            made.insert(host.to_owned(), Arc::clone(&new));
        }
        Some(new)
    }
}

fn dns(name: &str) -> Result<SanType, TlsError> {
    let name = name.to_owned();
    Ok(SanType::DnsName(name.clone().try_into().map_err(|_| TlsError::Name(name))?))
}

fn issue(
    issuer: &Issuer<'static, KeyPair>,
    authority: &CertificateDer<'static>,
    key: &KeyPair,
    signing: &Arc<dyn SigningKey>,
    name: &str,
    sans: Vec<SanType>,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let signed = authority::leaf(name, sans).signed_by(key, issuer).map_err(TlsError::Create)?;
    let chain = vec![signed.der().clone(), authority.clone()];
    Ok(Arc::new(CertifiedKey::new(chain, Arc::clone(signing))))
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name().map(str::to_lowercase);
        // A name that this server does not have gets a certificate that does not match, which the client reports.
        let own = host.filter(|host| self.is_below(host)).and_then(|host| self.of(&host));
        Some(own.unwrap_or_else(|| Arc::clone(&self.default)))
    }
}
