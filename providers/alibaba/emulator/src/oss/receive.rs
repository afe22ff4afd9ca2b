//! Streams a body into a file: computes CRC-64 (and MD5 where needed) while the bytes pass, and holds only
//! the current run. Writes happen on the connection's own worker thread: they go to the page cache, and
//! passing each run to another thread costs more than the write.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest as Crc};
use md5::{Digest as _, Md5};

use super::error::OssError;
use crate::http::{BodyError, Head, RequestBody};
use crate::ids;

/// The result of storing a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) length: u64,
    pub(crate) crc64: u64,
    /// `None` when it was not requested.
    pub(crate) md5: Option<[u8; 16]>,
}

impl Received {
    /// The ETag without quotes: MD5, or CRC-64 and length when the MD5 was not computed.
    pub(crate) fn etag(&self) -> String {
        match self.md5 {
            Some(md5) => ids::hex(&md5).to_uppercase(),
            None => format!("{:016X}{:016X}", self.crc64, self.length),
        }
    }
}

/// How to receive a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intake {
    /// Offset of the first byte.
    pub(crate) offset: u64,
    /// Maximum number of bytes.
    pub(crate) limit: u64,
    /// Compute the MD5.
    pub(crate) md5: bool,
    /// Flip a bit of the first byte before anything else (a fault).
    pub(crate) corrupt: bool,
}

impl From<BodyError> for OssError {
    fn from(error: BodyError) -> Self {
        match &error {
            BodyError::Broken(_) => Self::new(400, "IncompleteBody", &error.to_string()),
            BodyError::TooLong { .. } => Self::new(400, "EntityTooLarge", &error.to_string()),
        }
    }
}

/// Stores the body in `file`.
pub(crate) async fn store(
    body: &mut RequestBody,
    file: &File,
    intake: Intake,
) -> Result<Received, OssError> {
    let mut crc = Crc::new(CrcAlgorithm::Crc64Xz);
    let mut md5 = intake.md5.then(Md5::new);
    let mut length = 0;
    while let Some(mut data) = body.next().await? {
        if intake.corrupt && length == 0 && !data.is_empty() {
            data = flip(&data);
        }
        if length + data.len() as u64 > intake.limit {
            return Err(BodyError::TooLong { limit: intake.limit }.into());
        }
        crc.update(&data);
        if let Some(md5) = &mut md5 {
            md5.update(&data);
        }
        file.write_all_at(&data, intake.offset + length)
            .map_err(|error| OssError::internal(&error))?;
        length += data.len() as u64;
    }
    Ok(Received { length, crc64: crc.finalize(), md5: md5.map(|md5| md5.finalize().into()) })
}

fn flip(data: &Bytes) -> Bytes {
    let mut copy = BytesMut::from(data.as_ref());
    copy[0] ^= 1;
    copy.freeze()
}

/// The MD5 that a client declares for its body.
pub(crate) fn claimed_md5(head: &Head) -> Result<Option<[u8; 16]>, OssError> {
    let Some(text) = head.header("content-md5") else { return Ok(None) };
    STANDARD
        .decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .map(Some)
        .ok_or_else(|| digest_error(text))
}

/// An MD5 in the encoding of headers.
pub(crate) fn base64(md5: [u8; 16]) -> String {
    STANDARD.encode(md5)
}

/// Refuses a body whose MD5 differs from the one that the client declared.
pub(crate) fn check_md5(
    head: &Head,
    claimed: Option<[u8; 16]>,
    actual: Option<[u8; 16]>,
) -> Result<(), OssError> {
    if claimed.is_some() && claimed != actual {
        return Err(digest_error(head.header("content-md5").unwrap_or_default()));
    }
    Ok(())
}

fn digest_error(text: &str) -> OssError {
    OssError::new(400, "InvalidDigest", "The Content-MD5 you specified was invalid.")
        .with("Content-MD5", text)
}

/// Length that the client announces; 411 when it announces none and does not send chunks either.
pub(crate) fn announced(head: &Head, chunks_allowed: bool) -> Result<Option<u64>, OssError> {
    if let Some(length) = head.header("content-length").and_then(|text| text.parse().ok()) {
        return Ok(Some(length));
    }
    if chunks_allowed && head.headers.contains_key("transfer-encoding") {
        return Ok(None);
    }
    Err(OssError::new(
        411,
        "MissingContentLength",
        "You must provide the Content-Length HTTP header.",
    ))
}

/// CRC-64 of two consecutive runs of bytes.
pub(crate) fn combine(first: u64, second: u64, second_length: u64) -> u64 {
    crc_fast::checksum_combine(CrcAlgorithm::Crc64Xz, first, second, second_length)
}

#[cfg(test)]
mod tests {
    use crc_fast::{CrcAlgorithm, checksum};

    use super::combine;

    #[test]
    fn crc_is_the_vendors_variant_and_combines() {
        assert_eq!(checksum(CrcAlgorithm::Crc64Xz, b"123456789"), 11_051_210_869_376_104_954);
        let hello = checksum(CrcAlgorithm::Crc64Xz, b"hello ");
        let world = checksum(CrcAlgorithm::Crc64Xz, b"world");
        assert_eq!(combine(hello, world, 5), 5_981_764_153_023_615_706);
        assert_eq!(combine(0, hello, 6), hello);
    }
}
