//! Holds the publisher's keys: the private key that signs, the digest it signs, and the public key that others
//! verify with.

use std::{fmt, fs, path::Path};

use super::{Algorithm, PrivateKey, PublicKey, of_stream};
use crate::error::{Error, Result, Stage};

/// Signs published files.
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
    /// Reads the keys. A public key that does not belong to the private key is left out: it is used to verify
    /// signatures of others.
    ///
    /// # Errors
    /// An unknown digest, and unusable keys.
    pub fn read(digest: &str, private: &Path, public: Option<&Path>) -> Result<Self> {
        let algorithm = Algorithm::named(digest)?;
        let key = PrivateKey::read(private)?;
        let mut signer = Self { algorithm, key, public: None };
        if let Some(path) = public {
            let probe = signer.sign(b"probe")?;
            let digest = of_stream(algorithm, &mut &b"probe"[..])?;
            if PublicKey::read(path)?.verifies(algorithm, &digest, &probe) {
                let read_error = |error| {
                    let text = format!("cannot read `{}`", path.display());
                    Error::new(Stage::Settings, text).caused_by(&error)
                };
                signer.public = Some(fs::read(path).map_err(read_error)?);
            }
        }
        Ok(signer)
    }

    /// The digest of signatures.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public key as a PEM file, if it is known.
    #[must_use]
    pub fn public(&self) -> Option<&[u8]> {
        self.public.as_deref()
    }

    /// Signs bytes, like `openssl dgst -sign`.
    ///
    /// # Errors
    /// When the key is too small for the digest.
    pub fn sign(&self, mut bytes: &[u8]) -> Result<Vec<u8>> {
        self.sign_digest(&of_stream(self.algorithm, &mut bytes)?)
    }

    pub(super) fn sign_with(&self, algorithm: Algorithm, digest: &[u8]) -> Result<Vec<u8>> {
        self.key.sign(algorithm, digest)
    }

    /// The public key of the signing key: SubjectPublicKeyInfo (RFC 5280), DER.
    pub(super) fn public_der(&self) -> Option<Vec<u8>> {
        self.key.public_der()
    }

    /// Signs a digest.
    ///
    /// # Errors
    /// When the key is too small for the digest.
    pub fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>> {
        self.key.sign(self.algorithm, digest)
    }
}
