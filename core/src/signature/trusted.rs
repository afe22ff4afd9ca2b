//! Reads the keys that the user trusts, and verifies signatures of files with them. The program that makes the
//! signatures follows from the key's file:
//!
//! ```text
//! openssl dgst         a PEM file; RSA and ECDSA; beside the file: FILE.256.sig
//! minisign             `untrusted comment: ...`; beside the file: FILE.minisig
//! ssh-keygen -Y sign   a public key in one line, with namespace `file`; beside the file: FILE.sig
//! ```
//!
//! Source of SSH signatures: OpenSSH, `PROTOCOL.sshsig`.

use std::{fs::File, io::Read as _, path::Path};

use p256::ecdsa::signature::Verifier as _;
use ssh_key::{HashAlg, SshSig};

use super::{
    Algorithm, Digests, PublicKey,
    minisign::{self, MinisignKey},
};
use crate::error::{Error, Result, Stage};

/// The namespace of signatures of files: ssh-keygen(1), `-Y sign`.
const NAMESPACE: &str = "file";
/// First bytes of a signature of `ssh-keygen -Y sign`.
const SSH_SIGNATURE: &[u8] = b"-----BEGIN SSH SIGNATURE-----";
/// Starts of public keys of OpenSSH: sshd(8), "AUTHORIZED_KEYS FILE FORMAT".
const SSH_KEYS: [&[u8]; 3] = [b"ssh-", b"ecdsa-sha2-", b"sk-"];
/// Largest key that is looked at, bytes.
const LIMIT: u64 = 64 << 10;

/// A public key that the user trusts.
pub enum TrustedKey {
    /// Of `openssl dgst`, with the digest that it signs.
    Openssl(PublicKey, Algorithm),
    /// Of minisign.
    Minisign(MinisignKey),
    /// Of OpenSSH.
    Ssh(Box<ssh_key::PublicKey>),
}

impl TrustedKey {
    /// Reads a key. `algorithm` is the digest that `openssl dgst` is used with.
    ///
    /// # Errors
    /// When the file does not contain a public key of a known kind.
    pub fn read(path: &Path, algorithm: Algorithm) -> Result<Self> {
        let mut text = Vec::new();
        let read = File::open(path).and_then(|file| file.take(LIMIT).read_to_end(&mut text));
        // A file that cannot be read is reported by the last reader.
        let text = read.ok().and_then(|_| String::from_utf8(text).ok()).unwrap_or_default();
        let error = |what: &str, hint: &str| {
            Err(Error::new(Stage::Settings, format!("`{}` {what}", path.display())).hint(hint))
        };
        if text.contains("BEGIN OPENSSH PRIVATE KEY") {
            let hint = format!("give its public part, `{}.pub`", path.display());
            return error("holds a private key where a public one is wanted", &hint);
        }
        if minisign::is_meant(text.as_bytes()) {
            return MinisignKey::parse(&text).map(Self::Minisign).or_else(|what| {
                let what = format!("is not a public key of minisign: {what}");
                error(&what, "give the file that ends in `.pub`")
            });
        }
        if SSH_KEYS.iter().any(|start| text.as_bytes().starts_with(start)) {
            if text.trim().lines().count() > 1 {
                return error("has several SSH keys", "give a file with one of them");
            }
            let parsed = ssh_key::PublicKey::from_openssh(text.trim());
            return parsed.map(|key| Self::Ssh(Box::new(key))).or_else(|cause| {
                error(&format!("is not a usable SSH key: {cause}"), "give the file `.pub` of a key")
            });
        }
        PublicKey::read(path).map(|key| Self::Openssl(key, algorithm))
    }

    /// Returns the digests of a file that verification may need.
    #[must_use]
    pub fn algorithms(&self) -> Vec<Algorithm> {
        match self {
            Self::Openssl(_, algorithm) => vec![*algorithm],
            Self::Minisign(_) => vec![Algorithm::Blake2b512],
            // The signature decides.
            Self::Ssh(_) => vec![Algorithm::Sha256, Algorithm::Sha512],
        }
    }

    /// Returns the suffix of a signature beside its file.
    #[must_use]
    pub fn suffix(&self) -> String {
        match self {
            Self::Openssl(_, algorithm) => algorithm.signature_suffix(),
            Self::Minisign(_) => ".minisig".to_owned(),
            Self::Ssh(_) => ".sig".to_owned(),
        }
    }

    /// `RSA`, `EC`, `minisign`, or the algorithm of an SSH key, for messages.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Openssl(key, _) => key.kind().to_owned(),
            Self::Minisign(_) => "minisign".to_owned(),
            Self::Ssh(key) => key.algorithm().to_string(),
        }
    }

    /// Returns what a signature is made of, for messages: the digest, or the program.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Self::Openssl(_, algorithm) => algorithm.name(),
            Self::Minisign(_) => "minisign",
            Self::Ssh(_) => "ssh-keygen",
        }
    }

    /// Verifies that the owner of this key signed the file with these digests.
    ///
    /// # Errors
    /// Why the signature does not verify, as a fragment; `None` when there is nothing more to say.
    pub fn verify(&self, digests: &Digests, signature: &[u8]) -> Result<(), Option<String>> {
        let maker = if signature.starts_with(SSH_SIGNATURE) {
            "ssh-keygen"
        } else if minisign::is_meant(signature) {
            "minisign"
        } else {
            "openssl"
        };
        let digest = |algorithm| digests.get(algorithm).unwrap_or_default();
        let wanted = match self {
            Self::Openssl(key, algorithm) => {
                if key.verifies(*algorithm, digest(*algorithm), signature) {
                    return Ok(());
                }
                "openssl"
            }
            Self::Minisign(_) => "minisign",
            Self::Ssh(_) => "ssh-keygen",
        };
        if maker != wanted {
            let other = (maker != "openssl").then(|| format!("{maker} made it"));
            return Err(other);
        }
        match self {
            Self::Openssl(..) => Err(None),
            Self::Minisign(key) => {
                let text = String::from_utf8_lossy(signature);
                key.verify(digest(Algorithm::Blake2b512), &text).map_err(Some)
            }
            Self::Ssh(key) => verify_ssh(key, digests, signature).map_err(Some),
        }
    }
}

fn verify_ssh(key: &ssh_key::PublicKey, digests: &Digests, signature: &[u8]) -> Result<(), String> {
    let signature = SshSig::from_pem(signature).map_err(|error| error.to_string())?;
    if signature.namespace() != NAMESPACE {
        let found = signature.namespace().escape_debug();
        return Err(format!("its namespace is `{found}`, not `{NAMESPACE}`"));
    }
    if signature.public_key() != key.key_data() {
        return Err("it was made with another key".to_owned());
    }
    let (algorithm, name) = match signature.hash_alg() {
        HashAlg::Sha256 => (Algorithm::Sha256, "sha256"),
        HashAlg::Sha512 => (Algorithm::Sha512, "sha512"),
        other => return Err(format!("its digest is {other}")),
    };
    let digest = digests.get(algorithm).unwrap_or_default();
    let fields = [NAMESPACE.as_bytes(), signature.reserved(), name.as_bytes(), digest];
    let mut signed = b"SSHSIG".to_vec();
    for field in fields {
        let length = u32::try_from(field.len()).map_err(|_| "a field is too long")?;
        signed.extend_from_slice(&length.to_be_bytes());
        signed.extend_from_slice(field);
    }
    key.key_data()
        .verify(&signed, signature.signature())
        .map_err(|_| "it is of another file".to_owned())
}
