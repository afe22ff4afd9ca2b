//! Who publishes: the key that signs, the digest it signs, and the public part others check with.

use std::{fmt, fs, path::Path};

use super::{Algorithm, PrivateKey, PublicKey, of_stream};
use crate::error::{Error, Result, Stage};

/// Digest that is signed unless the user says otherwise.
const DIGEST: &str = "sha3-512";

/// Signs what is published.
pub struct Signer {
    algorithm: Algorithm,
    key: PrivateKey,
    public: Option<Vec<u8>>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Signer {
    /// Reads the keys. A public key that is not the private key's own is left out: it is there for
    /// checking what others signed.
    ///
    /// # Errors
    /// An unknown digest, and keys that cannot be used.
    pub fn read(digest: Option<&str>, private: &Path, public: Option<&Path>) -> Result<Self> {
        let algorithm = Algorithm::named(digest.unwrap_or(DIGEST))?;
        let key = PrivateKey::read(private)?;
        let mut signer = Self { algorithm, key, public: None };
        if let Some(path) = public {
            let probe = signer.sign(b"probe")?;
            let digest = of_stream(algorithm, &mut &b"probe"[..])?;
            if PublicKey::read(path)?.verifies(algorithm, &digest, &probe) {
                let unreadable = |error| {
                    let text = format!("cannot read `{}`", path.display());
                    Error::new(Stage::Settings, text).caused_by(&error)
                };
                signer.public = Some(fs::read(path).map_err(unreadable)?);
            }
        }
        Ok(signer)
    }

    /// The digest that is signed.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public key as a PEM file, when it is known.
    #[must_use]
    pub fn public(&self) -> Option<&[u8]> {
        self.public.as_deref()
    }

    /// The signature of bytes, as `openssl dgst -sign` makes it.
    ///
    /// # Errors
    /// When the key is too small for the digest.
    pub fn sign(&self, mut bytes: &[u8]) -> Result<Vec<u8>> {
        self.sign_digest(&of_stream(self.algorithm, &mut bytes)?)
    }

    pub(super) fn sign_with(&self, algorithm: Algorithm, digest: &[u8]) -> Result<Vec<u8>> {
        self.key.sign(algorithm, digest)
    }

    /// The public part of the key that signs: SubjectPublicKeyInfo (RFC 5280), DER.
    pub(super) fn public_der(&self) -> Option<Vec<u8>> {
        self.key.public_der()
    }

    /// The signature of something whose digest is known.
    ///
    /// # Errors
    /// When the key is too small for the digest.
    pub fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>> {
        self.key.sign(self.algorithm, digest)
    }
}
