//! Computes the keyed hashes of all signatures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::ids;

/// HMAC-SHA256.
pub(crate) fn sha256(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

/// Base64 of HMAC-SHA1.
pub(crate) fn sha1_base64(key: &[u8], data: &[u8]) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(data);
    STANDARD.encode(mac.finalize().into_bytes())
}

/// Lower-case hexadecimal SHA-256.
pub(crate) fn digest(data: &[u8]) -> String {
    ids::hex(&Sha256::digest(data))
}

/// Compares in time that does not depend on where the first difference is.
pub(crate) fn equal(left: &str, right: &str) -> bool {
    let differing = left.bytes().zip(right.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    left.len() == right.len() && differing == 0
}
