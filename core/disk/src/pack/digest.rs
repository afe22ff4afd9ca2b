//! Computes digests of the output while it is written.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, digest};

/// The digests to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestKinds {
    /// MD5 (RFC 1321), for `md5sum` files.
    pub md5: bool,
    /// SHA-1 (FIPS 180-4), for manifests.
    pub sha1: bool,
    /// SHA-256 (FIPS 180-4).
    pub sha256: bool,
    /// Another one, which the caller brings, such as that of a signature.
    pub other: Option<OtherDigest>,
}

/// Creates a digest that this crate does not know.
#[derive(Clone, Copy, Debug)]
pub struct OtherDigest(pub fn() -> Box<dyn digest::DynDigest + Send>);

impl PartialEq for OtherDigest {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::fn_addr_eq(self.0, other.0)
    }
}

impl Eq for OtherDigest {}

impl DigestKinds {
    /// No digests.
    pub const NONE: Self = Self { md5: false, sha1: false, sha256: false, other: None };

    /// Returns each requested digest alone.
    pub(super) fn each(self) -> impl Iterator<Item = Self> {
        [
            Self { md5: self.md5, ..Self::NONE },
            Self { sha1: self.sha1, ..Self::NONE },
            Self { sha256: self.sha256, ..Self::NONE },
            Self { other: self.other, ..Self::NONE },
        ]
        .into_iter()
        .filter(|one| *one != Self::NONE)
    }
}

/// The requested digests, as lower-case hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// MD5, 32 digits.
    pub md5: Option<String>,
    /// SHA-1, 40 digits.
    pub sha1: Option<String>,
    /// SHA-256, 64 digits.
    pub sha256: Option<String>,
    /// [`DigestKinds::other`].
    pub other: Option<String>,
}

impl Digests {
    /// Computes the digests of bytes in memory.
    pub fn of(bytes: &[u8], kinds: DigestKinds) -> Self {
        let mut hashes = Hashes::new(kinds);
        hashes.update(bytes);
        hashes.finish()
    }

    /// Returns these digests, and of `others` those that are missing here.
    pub(super) fn or(self, others: Self) -> Self {
        Self {
            md5: self.md5.or(others.md5),
            sha1: self.sha1.or(others.sha1),
            sha256: self.sha256.or(others.sha256),
            other: self.other.or(others.other),
        }
    }
}

/// Unfinished digests.
#[derive(Default)]
pub(super) struct Hashes {
    md5: Option<Md5>,
    sha1: Option<Sha1>,
    sha256: Option<Sha256>,
    other: Option<Box<dyn digest::DynDigest + Send>>,
    crc32: Option<crc_fast::Digest>,
}

impl Hashes {
    pub(super) fn new(kinds: DigestKinds) -> Self {
        Self {
            md5: kinds.md5.then(Md5::new),
            sha1: kinds.sha1.then(Sha1::new),
            sha256: kinds.sha256.then(Sha256::new),
            other: kinds.other.map(|OtherDigest(new)| new()),
            crc32: None,
        }
    }

    /// Computes a CRC-32 as well, which is not a published digest.
    pub(super) fn with_crc32(mut self) -> Self {
        self.crc32 = Some(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32IsoHdlc));
        self
    }

    /// Returns the CRC-32 of the bytes so far; 0 when it is not computed.
    pub(super) fn crc32(&self) -> u32 {
        let crc = self.crc32.as_ref().map_or(0, crc_fast::Digest::finalize);
        u32::try_from(crc & u64::from(u32::MAX)).unwrap_or(0)
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        if let Some(hash) = &mut self.md5 {
            hash.update(bytes);
        }
        if let Some(hash) = &mut self.sha1 {
            hash.update(bytes);
        }
        if let Some(hash) = &mut self.sha256 {
            hash.update(bytes);
        }
        if let Some(hash) = &mut self.other {
            hash.update(bytes);
        }
        if let Some(hash) = &mut self.crc32 {
            hash.update(bytes);
        }
    }

    pub(super) fn finish(self) -> Digests {
        Digests {
            md5: self.md5.map(|hash| hex(&hash.finalize())),
            sha1: self.sha1.map(|hash| hex(&hash.finalize())),
            sha256: self.sha256.map(|hash| hex(&hash.finalize())),
            other: self.other.map(|hash| hex(&hash.finalize())),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: RFC 1321 appendix A.5, FIPS 180-4 examples ("abc").
    #[test]
    fn the_published_vectors_hold_and_only_what_was_asked_for_is_there() {
        let other = Some(OtherDigest(|| Box::new(Sha256::new())));
        let every = DigestKinds { md5: true, sha1: true, sha256: true, other };
        let got = Digests::of(b"abc", every);
        assert_eq!(got.md5.unwrap(), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(got.sha1.unwrap(), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(got.other, got.sha256);
        assert_eq!(
            got.sha256.unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(Digests::of(b"abc", DigestKinds::NONE), Digests::default());
    }
}
