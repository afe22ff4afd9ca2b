//! Makes the calls of the EBS direct APIs, which write a snapshot block by block.
//!
//! Source: <https://docs.aws.amazon.com/ebs/latest/APIReference/>.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use build_image_plugin_api::{
    Error, ErrorKind, Result,
    retry::{Failure, Policy, retry},
};
use bytes::Bytes;
use percent_encoding::utf8_percent_encode;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

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
    /// The snapshot whose blocks the new one begins with. Its encryption is that of the new one, and must not be named.
    pub(crate) parent: Option<&'a str>,
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
    #[serde(default)]
    block_token: String,
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

/// Whether a refused completion means that an earlier one was served: its answer was lost, or `again` says that an earlier
/// process asked. The state of the snapshot shows how it ends.
pub(crate) fn is_sealed(failure: &Failure, again: bool) -> bool {
    (again || failure.error.context("attempts").is_some())
        && failure.status.is_some_and(|status| status == 400 || status == 409)
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
        if let Some(parent) = start.parent {
            document["ParentSnapshotId"] = parent.into();
        } else if start.encrypted {
            document["Encrypted"] = true.into();
        }
        if let Some(key) = start.kms_key.filter(|_| start.parent.is_none()) {
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

    /// As [`EbsDirect::put`], until it succeeds or the policy gives up.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn put_patiently(
        &self,
        snapshot: &str,
        block: u64,
        data: Bytes,
        digest: &Digest,
        policy: &Policy,
    ) -> Result<(), Failure> {
        retry(policy, async || self.put(snapshot, block, data.clone(), digest).await).await
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
        let mut found = Blocks::default();
        self.pages(snapshot, policy, |listed| _ = found.insert(listed.block_index)).await?;
        Ok(found)
    }

    async fn pages(
        &self,
        snapshot: &str,
        policy: &Policy,
        mut take: impl FnMut(Listed),
    ) -> Result<(), Failure> {
        let what = format!("`{}` of `{snapshot}`", Call::ListSnapshotBlocks.name());
        let mut token = None::<String>;
        loop {
            let mut path = format!("/snapshots/{snapshot}/blocks?maxResults={PAGE}");
            if let Some(token) = &token {
                path.push_str("&pageToken=");
                path.extend(utf8_percent_encode(token, ENCODED));
            }
            let answer = self.service.call(&Request::new(Method::GET, path), &what, policy).await?;
            let page: Page = Service::json(&answer, &what)?;
            page.blocks.into_iter().for_each(&mut take);
            // A token that leads nowhere must not be followed for ever.
            token = page.next_token.filter(|next| Some(next) != token.as_ref());
            if token.is_none() {
                return Ok(());
            }
        }
    }

    /// Reads a completed snapshot from its first block on; `None` when it has other blocks than the first ones, or more
    /// than `most`.
    ///
    /// # Errors
    /// Refusals, broken connections, and blocks that arrive damaged.
    pub(crate) async fn read(
        &self,
        snapshot: &str,
        most: u64,
        policy: &Policy,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let mut listed = Vec::new();
        self.pages(snapshot, policy, |block| listed.push(block)).await?;
        let is_next = |(number, listed): (u64, &Listed)| number == listed.block_index;
        if listed.len() as u64 > most || !(0..).zip(&listed).all(is_next) {
            return Ok(None);
        }
        let mut content = Vec::new();
        for block in &listed {
            content.extend_from_slice(&self.block(snapshot, block, policy).await?);
        }
        Ok(Some(content))
    }

    async fn block(
        &self,
        snapshot: &str,
        Listed { block_index, block_token }: &Listed,
        policy: &Policy,
    ) -> Result<Bytes, Failure> {
        let what = format!("`{}` {block_index} of `{snapshot}`", Call::GetSnapshotBlock.name());
        let mut path = format!("/snapshots/{snapshot}/blocks/{block_index}?blockToken=");
        path.extend(utf8_percent_encode(block_token, ENCODED));
        let mut request = Request::new(Method::GET, path);
        request.limit = BLOCK_LIMIT;
        retry(policy, async || {
            let answer = self.service.attempt(&request, &what).await?;
            let checksum = BASE64_STANDARD.encode(Sha256::digest(&answer.body));
            let is_whole = answer.body.len() as u64 == BLOCK
                && answer.header("x-amz-checksum").is_none_or(|theirs| theirs == checksum);
            if is_whole {
                return Ok(answer.body);
            }
            let message = format!("{what}: the block arrived damaged");
            Err(Failure::network(Error::new(ErrorKind::Network, message)))
        })
        .await
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
