//! Implements the OSS calls that only delta uploads make.
//!
//! Source: OSS API documentation, `UploadPartCopy`, `GetObject`, `PutObject`. A range that is not within the source is
//! ignored by `UploadPartCopy`, and the whole object is copied; the ETag in the request keeps the length of the source.

use std::time::Duration;

use build_image_plugin_api::{
    http::Body,
    retry::{Failure, Policy, retry},
};
use bytes::Bytes;
use reqwest::Method;
use serde::Deserialize;

use super::manifest::Described;
use crate::{
    oss::{CALL_LIMIT, Call, Oss},
    oss_answer::{crc, read_xml},
    sign::encode,
};

/// Time limit of a copied part, and the rate in bytes per second at which the service copies at least.
const COPY_LIMIT: Duration = Duration::from_secs(60);
const COPY_RATE: u64 = 4 << 20;
/// Time limit of a manifest on its way.
const MANIFEST_LIMIT: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
struct CopiedPart {
    #[serde(rename = "ETag")]
    etag: String,
}

/// An ETag without quotation marks.
pub(super) fn bare(etag: &str) -> &str {
    etag.trim().trim_matches('"')
}

impl Oss {
    /// Describes an object that may be copied from; otherwise, why it may not.
    pub(super) async fn described(
        &self,
        key: &str,
        policy: &Policy,
    ) -> Result<Result<Described, String>, Failure> {
        let call = || Call::new("HeadObject", Method::HEAD, Some(key));
        let sent = retry(policy, async || self.once(call(), Body::Empty, CALL_LIMIT).await);
        let answer = match sent.await {
            Ok(answer) => answer,
            Err(failure) if failure.has_status(404) && !failure.has_code(&["NoSuchBucket"]) => {
                return Ok(Err("it does not exist".to_owned()));
            }
            Err(failure) => return Err(failure),
        };
        let class = answer.header("x-oss-storage-class").unwrap_or_default();
        if class.contains("Archive") {
            return Ok(Err(format!("it has storage class {class}")));
        }
        let size = answer.header("content-length").and_then(|text| text.parse().ok());
        let etag = answer.header("etag").map(bare).filter(|etag| !etag.is_empty());
        Ok(match (size, etag, crc(&answer)) {
            (Some(size), Some(etag), Some(crc)) => {
                Ok(Described { key: key.to_owned(), etag: etag.to_owned(), size, crc })
            }
            _ => Err("the service reports no checksum of it".to_owned()),
        })
    }

    /// The first `most` bytes of an object; `None` when it does not exist.
    pub(super) async fn beginning(
        &self,
        key: &str,
        most: u64,
        policy: &Policy,
    ) -> Result<Option<Bytes>, Failure> {
        let call = || Call {
            headers: vec![
                ("range".to_owned(), format!("bytes=0-{}", most.saturating_sub(1))),
                ("x-oss-range-behavior".to_owned(), "standard".to_owned()),
            ],
            ..Call::new("GetObject", Method::GET, Some(key))
        };
        let sent = retry(policy, async || self.once(call(), Body::Empty, MANIFEST_LIMIT).await);
        match sent.await {
            Ok(answer) => Ok(Some(answer.body)),
            Err(failure) if failure.has_code(&["NoSuchKey"]) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Writes a small object.
    pub(super) async fn put(
        &self,
        key: &str,
        headers: &[(String, String)],
        content: &Bytes,
        policy: &Policy,
    ) -> Result<(), Failure> {
        let call =
            || Call { headers: headers.to_vec(), ..Call::new("PutObject", Method::PUT, Some(key)) };
        let body = || Body::Bytes(content.clone());
        let sent = retry(policy, async || self.once(call(), body(), MANIFEST_LIMIT).await);
        sent.await.map(|_| ())
    }

    /// Copies a range of an object into a part, once, unless the object has changed. Returns the part's ETag.
    pub(super) async fn copy_part(
        &self,
        (key, upload_id): (&str, &str),
        number: u32,
        source: &Described,
        (offset, length): (u64, u64),
    ) -> Result<String, Failure> {
        const OPERATION: &str = "UploadPartCopy";
        let header = |name: &str, value: String| (name.to_owned(), value);
        let last = (offset + length).saturating_sub(1);
        let call = Call {
            headers: vec![
                header(
                    "x-oss-copy-source",
                    format!("/{}/{}", self.bucket, encode::value(&source.key)),
                ),
                header("x-oss-copy-source-range", format!("bytes={offset}-{last}")),
                header("x-oss-copy-source-if-match", source.etag.clone()),
            ],
            ..Call::new(OPERATION, Method::PUT, Some(key))
        };
        let call = call.query("partNumber", number.to_string()).query("uploadId", upload_id);
        let limit = COPY_LIMIT + Duration::from_secs(length / COPY_RATE);
        let answer = self.once(call, Body::Empty, limit).await?;
        Ok(read_xml::<CopiedPart>(OPERATION, &answer)?.etag)
    }
}
