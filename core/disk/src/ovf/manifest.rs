//! Writes the manifest of an OVF package and its signature. Source: DMTF DSP0243 1.1.0, section 5.1 (SHA-1),
//! and 2.1.0, section 6.1 (SHA-256).

use std::fmt;

use crate::error::Error;

/// The digest algorithm of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestDigest {
    /// Supported by every vSphere version.
    Sha1,
    /// Supported by vSphere 6.5 and later.
    Sha256,
}

impl ManifestDigest {
    /// Returns the name of the algorithm, which starts each line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// Returns the number of hexadecimal digits of a digest.
    pub fn digits(self) -> usize {
        match self {
            Self::Sha1 => 40,
            Self::Sha256 => 64,
        }
    }

    /// Builds the manifest for files with these names and hexadecimal digests.
    pub fn manifest(self, files: &[(&str, &str)]) -> Vec<u8> {
        let line = |(file, digest): &(&str, &str)| format!("{}({file})= {digest}\n", self.name());
        files.iter().map(line).collect::<String>().into_bytes()
    }
}

/// Signs the given bytes.
pub type Sign = Box<dyn Fn(&[u8]) -> Result<Vec<u8>, Error> + Send>;

/// A member that contains the signature of the manifest.
pub struct Signature {
    /// The member's name, such as `<stem>.cert`.
    pub name: String,
    /// Called with the manifest: once with digests that are all zeros, to determine the length of the
    /// signature, and once with the real digests.
    pub sign: Sign,
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signature").field("name", &self.name).finish_non_exhaustive()
    }
}
