//! Reads private keys and signs with them.

use std::path::Path;

use p256::ecdsa::signature::hazmat::RandomizedPrehashSigner as _;
use rsa::{
    BigUint, RsaPrivateKey,
    pkcs1::{ALGORITHM_OID as RSA, RsaPrivateKey as RsaNumbers},
    pkcs8::{EncodePublicKey as _, ObjectIdentifier, PrivateKeyInfo},
    rand_core::OsRng,
};
use sec1::EcPrivateKey;
use zeroize::Zeroizing;

use super::{
    Algorithm,
    pem::{self, Block},
    public::{Curve, EC, filled, padding},
};
use crate::error::{Error, Result, Stage};

/// A private key.
pub struct PrivateKey(Kind);

enum Kind {
    Rsa(Box<RsaPrivateKey>),
    Ec(Curve, Zeroizing<Vec<u8>>),
}

impl PrivateKey {
    /// Reads a PEM file with a `PRIVATE KEY` (PKCS#8), an `RSA PRIVATE KEY` (PKCS#1) or an
    /// `EC PRIVATE KEY` (SEC 1), none of them encrypted.
    ///
    /// # Errors
    /// When the file does not contain a private key, or an unsupported or encrypted one.
    pub fn read(path: &Path) -> Result<Self> {
        let Block { label, der, encrypted } = pem::read(path)?;
        let display = path.display();
        let key_error = |what: &str, hint: String| {
            Error::new(Stage::Settings, format!("`{display}` {what}")).hint(hint)
        };
        if encrypted {
            let what = "is an encrypted private key; nobody could be asked for its pass phrase";
            let hint = format!("decrypt it: openssl pkey -in {display} -out plain.pem");
            return Err(key_error(what, hint));
        }
        let kind = match label.as_str() {
            "PRIVATE KEY" => of_info(&der),
            "RSA PRIVATE KEY" => rsa_key(&der),
            "EC PRIVATE KEY" => ec_key(&der, None),
            label if label.ends_with("PUBLIC KEY") => {
                let what = "holds a public key where a private one is wanted";
                return Err(key_error(what, "give the key that signs, not its public part".into()));
            }
            _ => Err("it is of an unknown kind".to_owned()),
        };
        kind.map(Self).map_err(|what| {
            let hint = "RSA keys and EC keys on P-256, P-384 and P-521 sign files";
            key_error(&format!("has `{label}`, which is not usable: {what}"), hint.to_owned())
        })
    }

    /// Signs a digest.
    ///
    /// # Errors
    /// When the key is too small for this digest algorithm.
    pub fn sign(&self, algorithm: Algorithm, digest: &[u8]) -> Result<Vec<u8>> {
        let sign_error = |what: String| {
            Error::new(Stage::Settings, format!("the key cannot sign with {algorithm}: {what}"))
                .hint("use a larger key or a shorter digest")
        };
        match &self.0 {
            Kind::Rsa(key) => {
                let padding = padding(algorithm)
                    .ok_or_else(|| sign_error("it is not trusted any more".into()))?;
                let signed = key.sign_with_rng(&mut OsRng, padding, digest);
                signed.map_err(|error| sign_error(error.to_string()))
            }
            Kind::Ec(curve, scalar) => sign(*curve, scalar, &filled(*curve, digest))
                .ok_or_else(|| sign_error("the signature could not be made".into())),
        }
    }
}

impl PrivateKey {
    /// Returns the public key: SubjectPublicKeyInfo (RFC 5280), DER.
    pub(super) fn public_der(&self) -> Option<Vec<u8>> {
        macro_rules! on {
            ($library:ident, $scalar:expr) => {
                $library::SecretKey::from_slice($scalar).ok()?.public_key().to_public_key_der()
            };
        }
        let der = match &self.0 {
            Kind::Rsa(key) => key.to_public_key().to_public_key_der(),
            Kind::Ec(Curve::P256, scalar) => on!(p256, scalar),
            Kind::Ec(Curve::P384, scalar) => on!(p384, scalar),
            Kind::Ec(Curve::P521, scalar) => on!(p521, scalar),
        };
        Some(der.ok()?.into_vec())
    }
}

fn of_info(der: &[u8]) -> Result<Kind, String> {
    let parse_error = |_| "it is broken".to_owned();
    let info = PrivateKeyInfo::try_from(der).map_err(parse_error)?;
    if info.algorithm.oid == RSA {
        return rsa_key(info.private_key);
    }
    if info.algorithm.oid != EC {
        return Err(format!("its algorithm is {}", info.algorithm.oid));
    }
    let curve = info.algorithm.parameters_oid().map_err(|_| "it is broken")?;
    ec_key(info.private_key, Some(curve))
}

fn rsa_key(der: &[u8]) -> Result<Kind, String> {
    let numbers = RsaNumbers::try_from(der).map_err(|_| "it is broken")?;
    if numbers.other_prime_infos.is_some() {
        return Err("it has more than two primes".to_owned());
    }
    let number = |part: rsa::pkcs1::UintRef<'_>| BigUint::from_bytes_be(part.as_bytes());
    let primes = vec![number(numbers.prime1), number(numbers.prime2)];
    let (n, e) = (number(numbers.modulus), number(numbers.public_exponent));
    RsaPrivateKey::from_components(n, e, number(numbers.private_exponent), primes)
        .map(|key| Kind::Rsa(Box::new(key)))
        .map_err(|error| error.to_string())
}

fn ec_key(der: &[u8], curve: Option<ObjectIdentifier>) -> Result<Kind, String> {
    let key = EcPrivateKey::try_from(der).map_err(|_| "it is broken")?;
    let named = key.parameters.and_then(|parameters| parameters.named_curve());
    let oid = curve.or(named).ok_or("it names no curve")?;
    let curve = Curve::of(oid).ok_or_else(|| format!("its curve is {oid}"))?;
    Ok(Kind::Ec(curve, Zeroizing::new(key.private_key.to_vec())))
}

fn sign(curve: Curve, scalar: &[u8], digest: &[u8]) -> Option<Vec<u8>> {
    macro_rules! on {
        ($library:ident) => {{
            use $library::ecdsa::{Signature, SigningKey};
            let key = SigningKey::from_slice(scalar).ok()?;
            let made: Result<Signature, _> = key.sign_prehash_with_rng(&mut OsRng, digest);
            made.ok()?.to_der().as_bytes().to_vec()
        }};
    }
    Some(match curve {
        Curve::P256 => on!(p256),
        Curve::P384 => on!(p384),
        Curve::P521 => on!(p521),
    })
}
