//! Reads public keys and signatures of minisign, and verifies them: <https://jedisct1.github.io/minisign/>, "Signature
//! format". The usual signatures are of the BLAKE2b-512 digest of a file; those of the whole file (`minisign -l`) would
//! need it in memory, and are refused. Existing libraries hash the file themselves, but here it is read once for
//! all digests.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use blake2::{Blake2b512, Digest as _};
use ed25519_dalek::{Signature, VerifyingKey};

/// Begins the first line of keys and signatures.
const COMMENT: &str = "untrusted comment:";
/// Begins the line that the second signature protects.
const TRUSTED: &str = "trusted comment: ";
/// The algorithms: of keys and of signatures of whole files, and of signatures of digests.
const ED25519: &[u8] = b"Ed";
const PREHASHED: &[u8] = b"ED";
/// Lengths in bytes: of algorithm and key id, of a public key, of a signature.
const HEAD: usize = 10;
const KEY: usize = 32;
const SIGNATURE: usize = 64;

/// Returns whether a text is a file of minisign.
pub(super) fn is_meant(text: &[u8]) -> bool {
    text.starts_with(COMMENT.as_bytes())
}

/// A public key.
#[derive(Debug)]
pub struct MinisignKey {
    id: [u8; 8],
    key: VerifyingKey,
}

impl MinisignKey {
    /// Parses a public key as `minisign -G` writes it.
    ///
    /// # Errors
    /// What is wrong, as a fragment.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        Self::of_line(text.lines().nth(1).ok_or("its second line is missing")?)
    }

    /// Parses a public key: the text of its file, or only the line of base64 in it.
    ///
    /// # Errors
    /// What is wrong, as a fragment.
    pub(crate) fn of_text(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if is_meant(text.as_bytes()) { Self::parse(text) } else { Self::of_line(text) }
    }

    fn of_line(line: &str) -> Result<Self, &'static str> {
        let bytes = decode(line)?;
        let (head, key) = split::<KEY>(&bytes).ok_or("its length is not that of a public key")?;
        if !head.starts_with(ED25519) {
            return Err("its algorithm is unknown");
        }
        let key = VerifyingKey::from_bytes(&key).map_err(|_| "it is broken")?;
        Ok(Self { id: id(head), key })
    }

    /// Returns the line of base64 in the key's file.
    pub(crate) fn line(&self) -> String {
        STANDARD.encode([ED25519, &self.id, self.key.as_bytes()].concat())
    }

    /// Returns the key id as minisign prints it.
    pub(crate) fn id(&self) -> String {
        hex(self.id)
    }

    /// Verifies a signature of these bytes, and its trusted comment.
    ///
    /// # Errors
    /// Why it does not verify, as a fragment.
    pub(crate) fn verify_bytes(&self, bytes: &[u8], signature: &str) -> Result<(), String> {
        self.verify(&Blake2b512::digest(bytes), signature)
    }

    /// Verifies a signature of a file with this BLAKE2b-512 digest, and its trusted comment.
    ///
    /// # Errors
    /// Why it does not verify, as a fragment.
    pub(super) fn verify(&self, digest: &[u8], signature: &str) -> Result<(), String> {
        let mut lines = signature.lines();
        let mut next = || lines.next().ok_or("a line is missing");
        let (_, main, comment, global) = (next()?, next()?, next()?, next()?);
        let bytes = decode(main)?;
        let (head, main) = split::<SIGNATURE>(&bytes).ok_or("its length is wrong")?;
        if head.starts_with(ED25519) {
            return Err("it signs the whole file (minisign -l), not its digest".to_owned());
        }
        if !head.starts_with(PREHASHED) {
            return Err("its algorithm is unknown".to_owned());
        }
        if id(head) != self.id {
            return Err(format!("it was made with key {}, not {}", hex(id(head)), hex(self.id)));
        }
        let comment = comment.strip_prefix(TRUSTED).ok_or("it has no trusted comment")?;
        let global: [u8; SIGNATURE] =
            decode(global)?.try_into().map_err(|_| "the signature of its comment is broken")?;
        let is_of = |bytes: &[u8], signature: &[u8; SIGNATURE]| {
            self.key.verify_strict(bytes, &Signature::from_bytes(signature)).is_ok()
        };
        if !is_of(digest, &main) {
            return Err("it is of another file".to_owned());
        }
        if !is_of(&[&main[..], comment.as_bytes()].concat(), &global) {
            return Err("its trusted comment was changed".to_owned());
        }
        Ok(())
    }
}

fn decode(line: &str) -> Result<Vec<u8>, &'static str> {
    STANDARD.decode(line.trim()).map_err(|_| "it is not base64")
}

/// Splits algorithm and key id from the rest.
fn split<const LENGTH: usize>(bytes: &[u8]) -> Option<(&[u8], [u8; LENGTH])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    Some((head, rest.try_into().ok()?))
}

fn id(head: &[u8]) -> [u8; 8] {
    let mut id = [0; 8];
    id.copy_from_slice(&head[2..HEAD]);
    id
}

/// Formats a key id as minisign prints it: a number, least significant byte first.
fn hex(id: [u8; 8]) -> String {
    format!("{:016X}", u64::from_le_bytes(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_keys_are_refused_with_the_reason() {
        let key = |bytes: &[u8]| format!("{COMMENT} x\n{}\n", STANDARD.encode(bytes));
        let with = |algorithm: &[u8], length: usize| key(&[algorithm, &vec![1; length]].concat());
        for (text, reason) in [
            (COMMENT.to_owned(), "second line"),
            (format!("{COMMENT}\n!\n"), "base64"),
            (with(b"Ed", 39), "length"),
            (with(b"Ed", 41), "length"),
            (with(b"Ex", 40), "algorithm"),
        ] {
            assert!(MinisignKey::parse(&text).unwrap_err().contains(reason), "{text}");
        }
        assert_eq!(hex([1, 0, 0, 0, 0, 0, 0, 0xab]), "AB00000000000001");
    }
}
