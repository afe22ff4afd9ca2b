//! The manifest of an OVF package and its signature. Source: DMTF DSP0243 1.1.0, section 5.1 (SHA-1), and
//! 2.1.0, section 6.1 (SHA-256).

use std::fmt;

use crate::error::Error;

/// The digest of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestDigest {
    /// What every vSphere takes.
    Sha1,
    /// What vSphere takes from 6.5 on.
    Sha256,
}

impl ManifestDigest {
    /// The name before each line's file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// Hexadecimal digits of a digest.
    pub fn digits(self) -> usize {
        match self {
            Self::Sha1 => 40,
            Self::Sha256 => 64,
        }
    }

    /// The manifest for files with these names and hexadecimal digests.
    pub fn manifest(self, files: &[(&str, &str)]) -> Vec<u8> {
        let line = |(file, digest): &(&str, &str)| format!("{}({file})= {digest}\n", self.name());
        files.iter().map(line).collect::<String>().into_bytes()
    }
}

/// Makes the signature of given bytes.
pub type Sign = Box<dyn Fn(&[u8]) -> Result<Vec<u8>, Error> + Send>;

/// A member which signs the manifest.
pub struct Signature {
    /// The member's name, such as `<stem>.cert`.
    pub name: String,
    /// Called with the manifest: once with one whose digests are all zeros, to learn how much room the
    /// signature needs, and once with the real one.
    pub sign: Sign,
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signature").field("name", &self.name).finish_non_exhaustive()
    }
}
