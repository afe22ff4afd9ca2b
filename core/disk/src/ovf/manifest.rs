//! The manifest of an OVF package and its signature. Source: DMTF DSP0243 1.1.0, section 5.1.

use std::fmt;

use crate::error::Error;

/// The digest of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestDigest {
    /// What vSphere before 6.5 wants.
    Sha1,
    /// What DSP0243 2.x allows besides.
    Sha256,
}

/// Makes the signature of given bytes.
pub type Sign = Box<dyn Fn(&[u8]) -> Result<Vec<u8>, Error> + Send>;

/// A member which signs the manifest.
pub struct Signature {
    /// The member's name, such as `<stem>.cert`.
    pub name: String,
    /// Called with the manifest: once with one whose digests are all zeros, to learn how long the
    /// signature gets, and once with the real one.
    pub sign: Sign,
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signature").field("name", &self.name).finish_non_exhaustive()
    }
}
