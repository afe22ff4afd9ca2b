//! Implements a bucket's transfer acceleration. It has no effect here; clients check whether it is enabled
//! before they use its endpoints. Source: the vendor's pages of Get- and PutBucketTransferAcceleration.

use super::error::OssError;
use super::read_xml::{elements, malformed};
use super::xml::Xml;
use crate::http::{Answer, RequestBody};
use crate::service::Context;
use crate::state::Bucket;

const MAX_BODY: u64 = 64 << 10;

/// Its value in GetBucketInfo.
pub(super) fn word(bucket: &Bucket) -> &'static str {
    if bucket.acceleration == Some(true) { "Enabled" } else { "Disabled" }
}

fn read(text: &[u8]) -> Result<bool, OssError> {
    let found = elements(text)?;
    let enabled = found.iter().find(|element| element.path.rsplit('/').next() == Some("Enabled"));
    match enabled.map(|element| element.text.trim()) {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        _ => Err(malformed("Enabled is true or false")),
    }
}

/// PutBucketTransferAcceleration. In the real service it takes up to 30 minutes.
pub(super) async fn put(
    context: &Context<'_>,
    name: &str,
    body: &mut RequestBody,
) -> Result<Answer, OssError> {
    let enabled = read(&body.whole(MAX_BODY).await?)?;
    let mut world = context.store.world();
    let mut bucket = world.buckets.get(name).cloned().ok_or_else(|| OssError::no_bucket(name))?;
    bucket.acceleration = Some(enabled);
    world.buckets.put(bucket)?;
    Ok(Answer::empty(200))
}

/// GetBucketTransferAcceleration.
pub(super) fn get(bucket: &Bucket) -> Result<Answer, OssError> {
    let enabled = bucket.acceleration.ok_or_else(|| {
        OssError::new(
            404,
            "NoSuchTransferAccelerationConfiguration",
            "The bucket has no transfer acceleration configuration.",
        )
        .with("BucketName", &bucket.name)
    })?;
    let mut xml = Xml::new("TransferAccelerationConfiguration");
    xml.leaf("Enabled", if enabled { "true" } else { "false" });
    Ok(Answer::text(200, "application/xml", xml.finish()))
}
