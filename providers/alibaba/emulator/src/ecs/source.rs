//! Determines the disks of an import call: format, size, and source objects. Only what the object's listing
//! shows is checked here, not its bytes.

use super::error::AcsError;
use super::params::Params;
use crate::ids;
use crate::oss::names;
use crate::state::{Disk, Segment, World, object_key};

const FORMATS: [&str; 3] = ["RAW", "VHD", "QCOW2"];
/// Suffixes of compressed or otherwise unusable objects.
const PACKED: [&str; 11] =
    [".iso", ".gz", ".tgz", ".zip", ".tar", ".xz", ".bz2", ".zst", ".7z", ".rar", ".ova"];
const MAX_DISKS: usize = 17;

/// The disks of an import, each with the bytes of its object.
pub(crate) fn disks(world: &World, params: &Params, region: &str) -> Result<Vec<Disk>, AcsError> {
    let indexes = params.indexes("DiskDeviceMapping");
    if indexes.is_empty() {
        return Err(AcsError::new(
            403,
            "MissingParameter.DiskDeviceMapping",
            "The input parameter DiskDeviceMapping that is mandatory for processing this request \
             is not supplied.",
        ));
    }
    if indexes.len() > MAX_DISKS {
        return Err(AcsError::new(
            403,
            "InvalidParameter.Malformed",
            "An image has at most 17 disks.",
        ));
    }
    let system = indexes[0];
    indexes.into_iter().map(|index| disk(world, params, region, index, index == system)).collect()
}

fn disk(
    world: &World,
    params: &Params,
    region: &str,
    index: u32,
    system: bool,
) -> Result<Disk, AcsError> {
    let name = |field: &str| format!("DiskDeviceMapping.{index}.{field}");
    let bucket = params.need(&name("OSSBucket"))?;
    let object = params.need(&name("OSSObject"))?;
    let format = params.get(&name("Format")).unwrap_or_default().to_uppercase();
    if !format.is_empty() && !FORMATS.contains(&format.as_str()) {
        return Err(AcsError::invalid("InvalidImageFormat.Malformed", &name("Format")));
    }
    let size_code = if system { "InvalidImageSize" } else { "InvalidDataDiskSize" };
    let size = match params.get(&name("DiskImageSize")) {
        None => 0,
        Some(text) => text
            .parse()
            .ok()
            .filter(|size| (1..=2048).contains(size))
            .ok_or_else(|| AcsError::invalid(size_code, &name("DiskImageSize")))?,
    };
    let segments = source(world, region, bucket, object)?;
    let letter = char::from(b'a' + u8::try_from(index.saturating_sub(1).min(25)).unwrap_or(25));
    Ok(Disk {
        snapshot: ids::resource("s"),
        kind: if system { "system" } else { "data" }.to_owned(),
        device: format!("/dev/xvd{letter}"),
        size,
        format,
        bucket: bucket.to_owned(),
        object: object.to_owned(),
        segments,
    })
}

/// The bytes of a disk's source object.
fn source(
    world: &World,
    region: &str,
    bucket: &str,
    object: &str,
) -> Result<Vec<Segment>, AcsError> {
    if !names::is_bucket_name(bucket) {
        return Err(AcsError::invalid("InvalidOSSBucket.Malformed", "OSSBucket"));
    }
    if names::check_key(object).is_err() {
        return Err(AcsError::invalid("InvalidOSSObject.Malformed", "OSSObject"));
    }
    let found = world.buckets.get(bucket).ok_or_else(|| {
        AcsError::new(400, "InvalidOSSBucket.NotFound", "The specified OSS bucket does not exist.")
    })?;
    if found.region != region {
        return Err(AcsError::new(
            400,
            "InvalidOSSBucket.NotMatched",
            "The specified OSS bucket is in another region than the image.",
        ));
    }
    if found.encryption.is_some() {
        return Err(encrypted());
    }
    let lower = object.to_lowercase();
    if PACKED.iter().any(|suffix| lower.ends_with(suffix)) {
        return Err(AcsError::new(
            400,
            "UnsupportedSuffix.OSSObject",
            "The suffix of the specified OSS object is not supported.",
        ));
    }
    let stored = world.objects.get(&object_key(bucket, object)).ok_or_else(|| {
        AcsError::new(400, "InvalidOSSObject.NotFound", "The specified OSS object does not exist.")
    })?;
    if stored.length == 0 {
        return Err(AcsError::new(
            400,
            "InvalidOSSObject.Size",
            "The size of the specified OSS object is zero.",
        ));
    }
    let header = |name: &str| stored.headers.get(name).map(String::as_str);
    if header("x-oss-storage-class").is_some_and(|class| class.contains("Archive")) {
        return Err(AcsError::new(
            400,
            "InvalidOSSObject.NeedRestore",
            "The specified OSS object is archived and must be restored first.",
        ));
    }
    if header("x-oss-server-side-encryption").is_some_and(|rule| rule != "None") {
        return Err(encrypted());
    }
    Ok(stored.segments.clone())
}

fn encrypted() -> AcsError {
    AcsError::new(
        403,
        "InvalidOSSBucket.EncryptUnsupported",
        "Encrypted OSS objects cannot be imported.",
    )
}
