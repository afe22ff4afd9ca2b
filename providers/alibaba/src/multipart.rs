//! Implements OSS multipart uploads: one function per operation.
//!
//! Source: OSS API documentation, "Multipart upload".

use build_image_plugin_api::{
    http::Body,
    retry::{Failure, Policy, retry},
};

use std::{
    fmt::Write as _,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use reqwest::Method;
use serde::Deserialize;

use crate::{
    client::Limit,
    oss::{CALL_LIMIT, Call, Oss},
    oss_answer::{crc, read_xml},
};

/// Completing many parts takes the service some time.
const COMPLETE_LIMIT: Duration = Duration::from_secs(180);

/// A part that the service has stored.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListedPart {
    pub(crate) part_number: u32,
    #[serde(rename = "ETag")]
    pub(crate) etag: String,
    pub(crate) size: u64,
    #[serde(rename = "HashCrc64ecma")]
    pub(crate) crc: Option<u64>,
    /// ISO 8601.
    #[serde(default)]
    pub(crate) last_modified: String,
}

/// A part that was sent.
#[derive(Clone, Debug)]
pub(crate) struct SentPart {
    pub(crate) etag: String,
    /// CRC-64 that the service computed.
    pub(crate) crc: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Initiated {
    upload_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PartsPage {
    #[serde(rename = "Part", default)]
    parts: Vec<ListedPart>,
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_part_number_marker: Option<u32>,
}

impl Oss {
    /// Starts an upload; returns its id. Repeated attempts may leave further uploads; find them with
    /// [`Oss::list_uploads`].
    pub(crate) async fn initiate(
        &self,
        key: &str,
        headers: &[(String, String)],
        policy: &Policy,
    ) -> Result<String, Failure> {
        const OPERATION: &str = "InitiateMultipartUpload";
        let call = || Call {
            headers: headers.to_vec(),
            ..Call::new(OPERATION, Method::POST, Some(key)).query("uploads", "")
        };
        let sent = retry(policy, async || self.once(call(), Body::Empty, CALL_LIMIT).await);
        Ok(read_xml::<Initiated>(OPERATION, &sent.await?)?.upload_id)
    }

    /// Sends a part once; the attempt is cancelled when `moved` does not change for `stall`.
    pub(crate) async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u32,
        body: Body,
        moved: Arc<AtomicU64>,
        stall: Duration,
    ) -> Result<SentPart, Failure> {
        let call = Call::new("UploadPart", Method::PUT, Some(key))
            .query("partNumber", number.to_string())
            .query("uploadId", upload_id);
        let answer = self.attempt(call, body, Limit::Idle(moved, stall)).await?;
        let etag = answer.header("etag").unwrap_or_default().to_owned();
        Ok(SentPart { etag, crc: crc(&answer) })
    }

    /// Every part that the service has stored, over all pages.
    pub(crate) async fn list_parts(
        &self,
        key: &str,
        upload_id: &str,
        policy: &Policy,
    ) -> Result<Vec<ListedPart>, Failure> {
        const OPERATION: &str = "ListParts";
        let mut parts = Vec::new();
        let mut marker = 0;
        loop {
            let call = || {
                let call = Call::new(OPERATION, Method::GET, Some(key))
                    .query("uploadId", upload_id)
                    .query("max-parts", "1000");
                if marker == 0 {
                    call
                } else {
                    call.query("part-number-marker", marker.to_string())
                }
            };
            let sent = retry(policy, async || self.once(call(), Body::Empty, CALL_LIMIT).await);
            let page: PartsPage = read_xml(OPERATION, &sent.await?)?;
            let last = page.parts.iter().map(|part| part.part_number).max();
            parts.extend(page.parts);
            let next = page.next_part_number_marker.or(last).unwrap_or(0);
            if !page.is_truncated || next <= marker {
                return Ok(parts);
            }
            marker = next;
        }
    }

    /// Completes an object from the parts; returns its CRC-64 if the service reports it.
    pub(crate) async fn complete(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[(u32, String)],
    ) -> Result<Option<u64>, Failure> {
        let mut body = String::with_capacity(parts.len() * 96);
        body.push_str("<CompleteMultipartUpload>");
        for (number, etag) in parts {
            let etag = quick_xml::escape::escape(etag.as_str());
            let _ =
                write!(body, "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
        }
        body.push_str("</CompleteMultipartUpload>");
        let call = Call::new("CompleteMultipartUpload", Method::POST, Some(key))
            .query("uploadId", upload_id);
        let answer = self.once(call, Body::Bytes(body.into()), COMPLETE_LIMIT).await?;
        Ok(crc(&answer))
    }

    /// Aborts an upload. Returns false when it no longer existed.
    pub(crate) async fn abort(
        &self,
        key: &str,
        upload_id: &str,
        policy: &Policy,
    ) -> Result<bool, Failure> {
        let call = || {
            Call::new("AbortMultipartUpload", Method::DELETE, Some(key))
                .query("uploadId", upload_id)
        };
        let sent = retry(policy, async || self.once(call(), Body::Empty, CALL_LIMIT).await);
        match sent.await {
            Ok(_) => Ok(true),
            Err(failure) if failure.has_code(&["NoSuchUpload"]) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Ids of all unfinished uploads of exactly this key, over all pages.
    pub(crate) async fn list_uploads(
        &self,
        key: &str,
        policy: &Policy,
    ) -> Result<Vec<String>, Failure> {
        let all = self.open_uploads(key, policy).await?.into_iter();
        Ok(all.filter(|upload| upload.key == key).map(|upload| upload.upload_id).collect())
    }
}
