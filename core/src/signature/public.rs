//! Reads public keys and verifies signatures with them.

use std::path::Path;

use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use rsa::{
    BigUint, Pkcs1v15Sign, RsaPublicKey,
    pkcs1::{ALGORITHM_OID as RSA, RsaPublicKey as RsaNumbers},
    pkcs8::{ObjectIdentifier, SubjectPublicKeyInfoRef},
};

use super::{
    Algorithm,
    pem::{self, Block},
};
use crate::error::{Error, Result, Stage};

/// Largest RSA modulus, bits; openssl's own limit.
const MAXIMUM_BITS: usize = 16_384;
/// ECDSA keys of all curves: RFC 5480, section 2.1.1.
pub(super) const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// Length of a number on P-521, bytes.
const P521_LENGTH: usize = 66;

/// A curve; RFC 5480, section 2.1.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    pub(super) fn of(oid: ObjectIdentifier) -> Option<Self> {
        match oid.to_string().as_str() {
            "1.2.840.10045.3.1.7" => Some(Self::P256),
            "1.3.132.0.34" => Some(Self::P384),
            "1.3.132.0.35" => Some(Self::P521),
            _ => None,
        }
    }
}

/// A public key that verifies signatures.
pub struct PublicKey(Kind);

enum Kind {
    Rsa(RsaPublicKey),
    Ec(Curve, Vec<u8>),
}

impl PublicKey {
    /// Reads a PEM file with a `PUBLIC KEY` (RFC 5280) or an `RSA PUBLIC KEY` (RFC 8017).
    ///
    /// # Errors
    /// When the file does not contain a public key, or an unsupported one.
    pub fn read(path: &Path) -> Result<Self> {
        let Block { label, der, encrypted } = pem::read(path)?;
        let display = path.display();
        let key_error = |what: &str, hint: String| {
            Error::new(Stage::Settings, format!("`{display}` {what}")).hint(hint)
        };
        if label.ends_with("PRIVATE KEY") || encrypted {
            let hint = format!("take the public part: openssl pkey -in {display} -pubout");
            return Err(key_error("holds a private key where a public one is wanted", hint));
        }
        let kind = match label.as_str() {
            "PUBLIC KEY" => of_info(&der),
            "RSA PUBLIC KEY" => rsa_key(&der).map(Kind::Rsa),
            "CERTIFICATE" | "TRUSTED CERTIFICATE" => {
                let hint = format!("take its key: openssl x509 -in {display} -pubkey -noout");
                return Err(key_error("holds a certificate where a public key is wanted", hint));
            }
            _ => Err("it is of an unknown kind".to_owned()),
        };
        kind.map(Self).map_err(|what| {
            let hint = "RSA keys and EC keys on P-256, P-384 and P-521 verify signatures of files";
            key_error(&format!("has `{label}`, which is not usable: {what}"), hint.to_owned())
        })
    }

    /// Verifies that the owner of this key made this signature of the digest.
    #[must_use]
    pub fn verifies(&self, algorithm: Algorithm, digest: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Kind::Rsa(key) => padding(algorithm)
                .is_some_and(|padding| key.verify(padding, digest, signature).is_ok()),
            Kind::Ec(curve, point) => verifies(*curve, point, &filled(*curve, digest), signature),
        }
    }

    /// `RSA` or `EC`, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.0 {
            Kind::Rsa(_) => "RSA",
            Kind::Ec(..) => "EC",
        }
    }
}

fn of_info(der: &[u8]) -> Result<Kind, String> {
    let parse_error = |_| "it is broken".to_owned();
    let info = SubjectPublicKeyInfoRef::try_from(der).map_err(parse_error)?;
    let bytes = info.subject_public_key.as_bytes().ok_or("it is broken")?;
    if info.algorithm.oid == RSA {
        return rsa_key(bytes).map(Kind::Rsa);
    }
    if info.algorithm.oid != EC {
        return Err(format!("its algorithm is {}", info.algorithm.oid));
    }
    let oid = info.algorithm.parameters_oid().map_err(parse_error)?;
    let curve = Curve::of(oid).ok_or_else(|| format!("its curve is {oid}"))?;
    let on_curve = match curve {
        Curve::P256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(bytes).is_ok(),
        Curve::P384 => p384::ecdsa::VerifyingKey::from_sec1_bytes(bytes).is_ok(),
        Curve::P521 => p521::ecdsa::VerifyingKey::from_sec1_bytes(bytes).is_ok(),
    };
    if on_curve { Ok(Kind::Ec(curve, bytes.to_vec())) } else { Err("it is broken".to_owned()) }
}

fn rsa_key(der: &[u8]) -> Result<RsaPublicKey, String> {
    let numbers = RsaNumbers::try_from(der).map_err(|_| "it is broken")?;
    let number = |bytes: &[u8]| BigUint::from_bytes_be(bytes);
    RsaPublicKey::new_with_max_size(
        number(numbers.modulus.as_bytes()),
        number(numbers.public_exponent.as_bytes()),
        MAXIMUM_BITS,
    )
    .map_err(|error| error.to_string())
}

/// The padding of RSA signatures: RFC 8017, section 9.2.
pub(super) fn padding(algorithm: Algorithm) -> Option<Pkcs1v15Sign> {
    Some(match algorithm {
        Algorithm::Md5 | Algorithm::Blake2b512 => return None,
        Algorithm::Sha224 => Pkcs1v15Sign::new::<sha2::Sha224>(),
        Algorithm::Sha256 => Pkcs1v15Sign::new::<sha2::Sha256>(),
        Algorithm::Sha384 => Pkcs1v15Sign::new::<sha2::Sha384>(),
        Algorithm::Sha512 => Pkcs1v15Sign::new::<sha2::Sha512>(),
        Algorithm::Sha3_224 => Pkcs1v15Sign::new::<sha3::Sha3_224>(),
        Algorithm::Sha3_256 => Pkcs1v15Sign::new::<sha3::Sha3_256>(),
        Algorithm::Sha3_384 => Pkcs1v15Sign::new::<sha3::Sha3_384>(),
        Algorithm::Sha3_512 => Pkcs1v15Sign::new::<sha3::Sha3_512>(),
    })
}

/// A digest in the form that the ECDSA library accepts: it refuses short ones on P-521, where every digest is
/// short; leading zeroes do not change the number.
pub(super) fn filled(curve: Curve, digest: &[u8]) -> Vec<u8> {
    let length = if curve == Curve::P521 { P521_LENGTH } else { 0 };
    let mut bytes = vec![0; length.saturating_sub(digest.len())];
    bytes.extend_from_slice(digest);
    bytes
}

fn verifies(curve: Curve, point: &[u8], digest: &[u8], signature: &[u8]) -> bool {
    macro_rules! on {
        ($library:ident) => {{
            use $library::ecdsa::{Signature, VerifyingKey};
            let key = VerifyingKey::from_sec1_bytes(point);
            let signature = Signature::from_der(signature);
            key.and_then(|key| key.verify_prehash(digest, &signature?)).is_ok()
        }};
    }
    match curve {
        Curve::P256 => on!(p256),
        Curve::P384 => on!(p384),
        Curve::P521 => on!(p521),
    }
}
