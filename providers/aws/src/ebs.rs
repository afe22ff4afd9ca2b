//! Makes the calls of the EBS direct APIs, which write a snapshot block by block.
//!
//! Source: <https://docs.aws.amazon.com/ebs/latest/APIReference/>.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use build_image_plugin_api::{
    Error, ErrorKind, Result,
    retry::{Failure, Policy},
};
use bytes::Bytes;
use percent_encoding::utf8_percent_encode;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::{
    blocks::{BLOCK, Blocks},
    client::{CALL, Request, Service},
    cloud::Cloud,
    ec2::ENCODED,
    partition::Api,
    permissions::Call,
};

/// Time limit of one attempt to send a block: 512 KiB at 5 KiB/s.
const BLOCK_LIMIT: Duration = Duration::from_secs(100);
/// Blocks per page of a list.
const PAGE: &str = "10000";
/// Codes of a snapshot that does not exist any more.
const GONE: [&str; 2] = ["ResourceNotFoundException", "SnapshotNotFoundException"];

/// A SHA-256.
pub(crate) type Digest = [u8; 32];

/// What a snapshot is started with.
#[derive(Clone, Debug)]
pub(crate) struct Start<'a> {
    pub(crate) token: &'a str,
    pub(crate) gib: u64,
    pub(crate) description: String,
    pub(crate) minutes: u64,
    pub(crate) encrypted: bool,
    pub(crate) kms_key: Option<&'a str>,
    pub(crate) tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Started {
    snapshot_id: String,
    #[serde(default)]
    block_size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default)]
    blocks: Vec<Listed>,
    #[serde(default)]
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    block_index: u64,
}

/// The EBS direct APIs in a region.
#[derive(Clone)]
pub(crate) struct EbsDirect {
    service: Service,
}

/// Whether a call failed because the snapshot does not exist any more.
pub(crate) fn is_gone(failure: &Failure) -> bool {
    failure.has_code(&GONE) || failure.error.context("reason") == Some("SNAPSHOT_NOT_FOUND")
}

impl EbsDirect {
    /// Opens the APIs in a region.
    ///
    /// # Errors
    /// Config errors for the endpoint.
    pub(crate) fn open(cloud: &Cloud<'_>, region: &str) -> Result<Self> {
        Ok(Self { service: cloud.service(Api::Ebs, region)? })
    }

    /// Starts a snapshot; returns its id. A repeated token returns the same snapshot.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn start(&self, start: &Start<'_>) -> Result<String, Failure> {
        let what = format!("`{}` of {} GiB", Call::StartSnapshot.name(), start.gib);
        let tags: Vec<_> =
            start.tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
        let mut document = json!({
            "VolumeSize": start.gib,
            "ClientToken": start.token,
            "Description": start.description,
            "Timeout": start.minutes,
            "Tags": tags,
        });
        if start.encrypted {
            document["Encrypted"] = true.into();
        }
        if let Some(key) = start.kms_key {
            document["KmsKeyArn"] = key.into();
        }
        let request = Request::new(Method::POST, "/snapshots")
            .header("content-type", "application/json")
            .body(document.to_string());
        let answer = self.service.call(&request, &what, &CALL).await?;
        let started: Started = Service::json(&answer, &what)?;
        // The emulator moto states another size; blocks are as large as the API reference says.
        if started.block_size > BLOCK {
            let message =
                format!("{what}: blocks of {} bytes are not supported", started.block_size);
            return Err(Failure::stop(Error::unsupported(message, "set AWS_UPLOAD=s3")));
        }
        Ok(started.snapshot_id)
    }

    /// Sends a block once, with its SHA-256, and compares what the service received.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn put(
        &self,
        snapshot: &str,
        block: u64,
        data: Bytes,
        digest: &Digest,
    ) -> Result<(), Failure> {
        let what = format!("`{}` {block} of `{snapshot}`", Call::PutSnapshotBlock.name());
        let checksum = BASE64_STANDARD.encode(digest);
        let path = format!("/snapshots/{snapshot}/blocks/{block}");
        let mut request = Request::new(Method::PUT, path)
            .header("content-type", "application/octet-stream")
            .header("x-amz-data-length", data.len().to_string())
            .header("x-amz-checksum", &checksum)
            .header("x-amz-checksum-algorithm", "SHA256")
            .body(data);
        request.sha256 = Some(hex(digest));
        request.limit = BLOCK_LIMIT;
        let answer = self.service.attempt(&request, &what).await?;
        match answer.header("x-amz-checksum") {
            Some(theirs) if theirs != checksum => {
                let message = format!("{what}: the block arrived damaged");
                Err(Failure::network(Error::new(ErrorKind::Network, message)))
            }
            _ => Ok(()),
        }
    }

    /// Seals a snapshot: `count` blocks, whose digests in ascending order have this digest.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn complete(
        &self,
        snapshot: &str,
        count: u64,
        digest: &Digest,
    ) -> Result<(), Failure> {
        let what = format!("`{}` of `{snapshot}`", Call::CompleteSnapshot.name());
        let request = Request::new(Method::POST, format!("/snapshots/completion/{snapshot}"))
            .header("x-amz-changedblockscount", count.to_string())
            .header("x-amz-checksum", BASE64_STANDARD.encode(digest))
            .header("x-amz-checksum-algorithm", "SHA256")
            .header("x-amz-checksum-aggregation-method", "LINEAR");
        self.service.call(&request, &what, &CALL).await.map(drop)
    }

    /// Returns the blocks of a completed snapshot.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn list(&self, snapshot: &str, policy: &Policy) -> Result<Blocks, Failure> {
        let what = format!("`{}` of `{snapshot}`", Call::ListSnapshotBlocks.name());
        let (mut found, mut token) = (Blocks::default(), None::<String>);
        loop {
            let mut path = format!("/snapshots/{snapshot}/blocks?maxResults={PAGE}");
            if let Some(token) = &token {
                path.push_str("&pageToken=");
                path.extend(utf8_percent_encode(token, ENCODED));
            }
            let answer = self.service.call(&Request::new(Method::GET, path), &what, policy).await?;
            let page: Page = Service::json(&answer, &what)?;
            for listed in &page.blocks {
                found.insert(listed.block_index);
            }
            // A token that leads nowhere must not be followed for ever.
            token = page.next_token.filter(|next| Some(next) != token.as_ref());
            if token.is_none() {
                return Ok(found);
            }
        }
    }
}

/// Returns a digest in hexadecimal.
pub(crate) fn hex(digest: &[u8]) -> String {
    use std::fmt::Write as _;

    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
