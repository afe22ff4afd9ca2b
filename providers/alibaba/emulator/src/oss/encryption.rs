//! Implements a bucket's default encryption. Nothing is really encrypted here; objects are only marked as
//! encrypted, since ECS does not import them.

use std::collections::BTreeMap;

use super::error::OssError;
use super::read_xml::{elements, malformed};
use super::xml::Xml;
use crate::http::{Answer, RequestBody};
use crate::service::Context;
use crate::state::{Bucket, Encryption, World};

const HEADER: &str = "x-oss-server-side-encryption";
const MAX_BODY: u64 = 64 << 10;

/// Marks an object with its bucket's encryption, unless the writer specified another.
pub(super) fn apply(world: &World, bucket: &str, headers: &mut BTreeMap<String, String>) {
    let Some(rule) = world.buckets.get(bucket).and_then(|bucket| bucket.encryption.as_ref()) else {
        return;
    };
    headers.entry(HEADER.to_owned()).or_insert_with(|| rule.algorithm.clone());
}

fn read(text: &[u8]) -> Result<Encryption, OssError> {
    let mut rule = Encryption { algorithm: String::new(), key: String::new() };
    for element in elements(text)? {
        match element.path.rsplit('/').next() {
            Some("SSEAlgorithm") => rule.algorithm = element.text.trim().to_owned(),
            Some("KMSMasterKeyID") => rule.key = element.text.trim().to_owned(),
            _ => {}
        }
    }
    if !matches!(rule.algorithm.as_str(), "AES256" | "KMS" | "SM4") {
        return Err(malformed("SSEAlgorithm is AES256, KMS or SM4"));
    }
    Ok(rule)
}

/// PutBucketEncryption.
pub(super) async fn put(
    context: &Context<'_>,
    name: &str,
    body: &mut RequestBody,
) -> Result<Answer, OssError> {
    let rule = read(&body.whole(MAX_BODY).await?)?;
    set(context, name, Some(rule))?;
    Ok(Answer::empty(200))
}

/// DeleteBucketEncryption.
pub(super) fn delete(context: &Context<'_>, name: &str) -> Result<Answer, OssError> {
    set(context, name, None)?;
    Ok(Answer::empty(204))
}

fn set(context: &Context<'_>, name: &str, rule: Option<Encryption>) -> Result<(), OssError> {
    let mut world = context.store.world();
    let mut bucket = world.buckets.get(name).cloned().ok_or_else(|| OssError::no_bucket(name))?;
    bucket.encryption = rule;
    world.buckets.put(bucket)?;
    Ok(())
}

/// GetBucketEncryption.
pub(super) fn get(bucket: &Bucket) -> Result<Answer, OssError> {
    let rule = bucket.encryption.as_ref().ok_or_else(|| {
        OssError::new(
            404,
            "NoSuchServerSideEncryptionRule",
            "The server side encryption configuration does not exist.",
        )
        .with("BucketName", &bucket.name)
    })?;
    let mut xml = Xml::new("ServerSideEncryptionRule");
    xml.node("ApplyServerSideEncryptionByDefault", |node| {
        node.leaf("SSEAlgorithm", &rule.algorithm).leaf("KMSMasterKeyID", &rule.key);
    });
    Ok(Answer::text(200, "application/xml", xml.finish()))
}
