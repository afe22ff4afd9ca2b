//! Generates names: request ids, upload ids, image, snapshot, and task ids, body files. They are unique, not
//! secret: a SHA-256 over start time, process id, and a counter.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

const BASE36: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

fn digest() -> [u8; 32] {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    static START: OnceLock<i128> = OnceLock::new();
    let start = START.get_or_init(|| jiff::Timestamp::now().as_nanosecond());
    let mut hash = Sha256::new();
    hash.update(start.to_le_bytes());
    hash.update(std::process::id().to_le_bytes());
    hash.update(COUNTER.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    hash.finalize().into()
}

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// 24 upper-case hexadecimal digits, as OSS numbers its requests.
pub(crate) fn oss_request() -> String {
    hex(&digest()[..12]).to_uppercase()
}

/// An upper-case UUID, as the RPC services number their requests.
pub(crate) fn acs_request() -> String {
    let text = hex(&digest()[..16]).to_uppercase();
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

/// 32 upper-case hexadecimal digits, as OSS names its multipart uploads.
pub(crate) fn upload() -> String {
    hex(&digest()[..16]).to_uppercase()
}

/// The name of a new body file.
pub(crate) fn blob() -> String {
    hex(&digest()[..12])
}

/// `<prefix>-bp1` and 17 letters or digits, as ECS names images (`m`), snapshots (`s`), tasks (`t`).
pub(crate) fn resource(prefix: &str) -> String {
    let tail: String =
        digest().iter().take(17).map(|byte| char::from(BASE36[usize::from(byte % 36)])).collect();
    format!("{prefix}-bp1{tail}")
}

#[cfg(test)]
mod tests {
    use super::{acs_request, hex, oss_request, resource, upload};

    #[test]
    fn ids_have_the_vendors_shapes_and_differ() {
        assert_eq!(hex(&[0, 0xab, 0xff]), "00abff");
        assert_eq!(oss_request().len(), 24);
        assert_eq!(acs_request().split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_ne!(upload(), upload());
        let image = resource("m");
        assert!(image.starts_with("m-bp1") && image.len() == 22, "{image}");
    }
}
