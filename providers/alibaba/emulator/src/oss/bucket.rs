//! Implements PutBucket, DeleteBucket, GetBucketInfo, GetBucketLocation, GetBucketStat, ListBuckets.

use super::acceleration;
use super::error::OssError;
use super::names;
use super::xml::Xml;
use crate::clock;
use crate::http::{Answer, Head};
use crate::service::{ACCOUNT_ID, Context};
use crate::state::Bucket;

const STORAGE_CLASS: &str = "Standard";

pub(super) fn owner(xml: &mut Xml) {
    xml.node("Owner", |node| {
        node.leaf("ID", ACCOUNT_ID).leaf("DisplayName", ACCOUNT_ID);
    });
}

/// Public and internal endpoint of a region.
fn endpoints(region: &str) -> [String; 2] {
    [format!("oss-{region}.aliyuncs.com"), format!("oss-{region}-internal.aliyuncs.com")]
}

/// The bucket, or `NoSuchBucket`.
pub(crate) fn find(context: &Context<'_>, name: &str) -> Result<Bucket, OssError> {
    let world = context.store.world();
    let bucket = world.buckets.get(name).cloned().ok_or_else(|| OssError::no_bucket(name))?;
    if bucket.owner == context.account { Ok(bucket) } else { Err(OssError::not_the_owner()) }
}

/// PutBucket: the owner may put a bucket again.
pub(crate) fn put(context: &Context<'_>, name: &str, region: &str) -> Result<Answer, OssError> {
    names::check_bucket(name)?;
    let mut world = context.store.world();
    match world.buckets.get(name) {
        Some(bucket) if bucket.region != region || bucket.owner != context.account => {
            return Err(OssError::new(
                409,
                "BucketAlreadyExists",
                "The requested bucket name is not available.",
            )
            .with("BucketName", name));
        }
        Some(_) => {}
        None => {
            let bucket = Bucket {
                name: name.to_owned(),
                region: region.to_owned(),
                created: clock::now(),
                encryption: None,
                acceleration: None,
                owner: context.account.to_owned(),
            };
            world.buckets.put(bucket)?;
        }
    }
    Ok(Answer::empty(200).with("location", &format!("/{name}")))
}

/// DeleteBucket: the bucket must be empty.
pub(crate) fn delete(context: &Context<'_>, name: &str) -> Result<Answer, OssError> {
    let mut world = context.store.world();
    let start = crate::state::object_key(name, "");
    let in_use = world.objects.with_prefix(&start).next().is_some()
        || world.uploads.iter().any(|upload| upload.bucket == name);
    if in_use {
        return Err(OssError::new(
            409,
            "BucketNotEmpty",
            "The bucket has objects. Please delete them first.",
        )
        .with("BucketName", name));
    }
    world.buckets.remove(name)?;
    Ok(Answer::empty(204))
}

/// GetBucketInfo.
pub(crate) fn info(bucket: &Bucket) -> Answer {
    let [outside, inside] = endpoints(&bucket.region);
    let mut xml = Xml::new("BucketInfo");
    xml.node("Bucket", |node| {
        node.leaf("AccessMonitor", "Disabled")
            .leaf("CreationDate", &clock::iso_zeros(bucket.created))
            .leaf("ExtranetEndpoint", &outside)
            .leaf("IntranetEndpoint", &inside)
            .leaf("Location", &format!("oss-{}", bucket.region))
            .leaf("StorageClass", STORAGE_CLASS)
            .leaf("DataRedundancyType", "LRS")
            .leaf("TransferAcceleration", acceleration::word(bucket))
            .leaf("CrossRegionReplication", "Disabled")
            .leaf("BlockPublicAccess", "false")
            .leaf("Name", &bucket.name)
            .leaf("ResourceGroupId", "rg-emulator")
            .leaf("Comment", "");
        owner(node);
        node.node("AccessControlList", |list| {
            list.leaf("Grant", "private");
        })
        .node("ServerSideEncryptionRule", |rule| {
            match &bucket.encryption {
                None => rule.leaf("SSEAlgorithm", "None"),
                Some(set) => {
                    rule.leaf("SSEAlgorithm", &set.algorithm).leaf("KMSMasterKeyID", &set.key)
                }
            };
        })
        .node("BucketPolicy", |policy| {
            policy.leaf("LogBucket", "").leaf("LogPrefix", "");
        });
    });
    Answer::text(200, "application/xml", xml.finish())
}

/// GetBucketLocation.
pub(crate) fn location(bucket: &Bucket) -> Answer {
    let mut xml = Xml::new("LocationConstraint");
    xml.content(&format!("oss-{}", bucket.region));
    Answer::text(200, "application/xml", xml.finish())
}

/// GetBucketStat. Every object counts as one of the class Standard.
pub(crate) fn stat(context: &Context<'_>, name: &str) -> Answer {
    let world = context.store.world();
    let (mut bytes, mut objects) = (0, 0_u64);
    for object in world.objects.with_prefix(&crate::state::object_key(name, "")) {
        bytes += object.length;
        objects += 1;
    }
    let uploads = world.uploads.iter().filter(|upload| upload.bucket == name);
    let ids: Vec<&str> = uploads.map(|upload| upload.id.as_str()).collect();
    let parts: usize = ids.iter().map(|id| world.parts_of(id).count()).sum();
    let mut xml = Xml::new("BucketStat");
    for (field, value) in [
        ("Storage", bytes),
        ("ObjectCount", objects),
        ("MultipartUploadCount", ids.len() as u64),
        ("MultipartPartCount", parts as u64),
        ("LiveChannelCount", 0),
        ("LastModifiedTime", u64::try_from(context.now / 1000).unwrap_or_default()),
        ("StandardStorage", bytes),
        ("StandardObjectCount", objects),
        ("InfrequentAccessStorage", 0),
        ("InfrequentAccessRealStorage", 0),
        ("InfrequentAccessObjectCount", 0),
        ("ArchiveStorage", 0),
        ("ArchiveRealStorage", 0),
        ("ArchiveObjectCount", 0),
        ("ColdArchiveStorage", 0),
        ("ColdArchiveRealStorage", 0),
        ("ColdArchiveObjectCount", 0),
    ] {
        xml.leaf(field, &value.to_string());
    }
    Answer::text(200, "application/xml", xml.finish())
}

/// ListBuckets.
pub(crate) fn list(context: &Context<'_>, head: &Head) -> Answer {
    let prefix = head.given("prefix").unwrap_or_default();
    let marker = head.given("marker").unwrap_or_default();
    let limit = head.given("max-keys").and_then(|text| text.parse().ok()).unwrap_or(100);
    let world = context.store.world();
    let mut rest = world
        .buckets
        .with_prefix(prefix)
        .filter(|bucket| bucket.name.as_str() > marker && bucket.owner == context.account);
    let page: Vec<&Bucket> = rest.by_ref().take(limit).collect();
    let truncated = rest.next().is_some();
    let next = page.last().filter(|_| truncated).map_or("", |bucket| bucket.name.as_str());
    let mut xml = Xml::new("ListAllMyBucketsResult");
    owner(&mut xml);
    xml.leaf("Prefix", prefix)
        .leaf("Marker", marker)
        .leaf("MaxKeys", &limit.to_string())
        .leaf("IsTruncated", if truncated { "true" } else { "false" })
        .leaf("NextMarker", next);
    xml.node("Buckets", |list| {
        for bucket in page {
            let [outside, inside] = endpoints(&bucket.region);
            list.node("Bucket", |node| {
                node.leaf("Name", &bucket.name)
                    .leaf("CreationDate", &clock::iso_zeros(bucket.created))
                    .leaf("Location", &format!("oss-{}", bucket.region))
                    .leaf("Region", &bucket.region)
                    .leaf("ExtranetEndpoint", &outside)
                    .leaf("IntranetEndpoint", &inside)
                    .leaf("StorageClass", STORAGE_CLASS);
            });
        }
    });
    Answer::text(200, "application/xml", xml.finish())
}
