//! Implements InitiateMultipartUpload, UploadPart, AbortMultipartUpload, ListParts.
//!
//! Parts of the length of the first one go into one shared body file, each at its own offset, so that the
//! completed object is one file without a copy. A part that does not fit there (longer, or sent again) gets a
//! separate file; a finished part is therefore never overwritten.

use std::fs::File;

use super::encryption;
use super::error::OssError;
use super::list::Listing;
use super::object::{self, MAX_PUT};
use super::receive::{self, Intake};
use super::xml::Xml;
use crate::clock;
use crate::http::{Answer, Head, RequestBody};
use crate::ids;
use crate::service::Context;
use crate::state::{Hold, Part, Segment, Upload, World, part_key};

/// Highest part number.
pub(crate) const MAX_PARTS: u16 = 10_000;

/// The upload that a request names, if it belongs to this object.
pub(crate) fn find<'a>(
    world: &'a World,
    head: &Head,
    bucket: &str,
    key: &str,
) -> Result<&'a Upload, OssError> {
    let id = head.given("uploadId").unwrap_or_default();
    world
        .uploads
        .get(id)
        .filter(|upload| upload.bucket == bucket && upload.name == key)
        .ok_or_else(|| OssError::no_upload(id))
}

/// InitiateMultipartUpload.
pub(crate) fn initiate(
    context: &Context<'_>,
    head: &Head,
    bucket: &str,
    key: &str,
) -> Result<Answer, OssError> {
    let listing = Listing::read(head)?;
    let mut headers = object::kept_headers(head)?;
    let mut world = context.store.world();
    object::check_overwrite(&world, head, bucket, key)?;
    encryption::apply(&world, bucket, &mut headers);
    let upload = Upload {
        id: ids::upload(),
        bucket: bucket.to_owned(),
        name: key.to_owned(),
        initiated: clock::now(),
        headers,
        blob: ids::blob(),
        part_size: None,
    };
    let mut xml = Xml::new("InitiateMultipartUploadResult");
    listing.tell(&mut xml);
    xml.leaf("Bucket", bucket).leaf("Key", &listing.name(key)).leaf("UploadId", &upload.id);
    world.uploads.put(upload)?;
    Ok(Answer::text(200, "application/xml", xml.finish()))
}

/// Number in `partNumber`, 1 to 10000.
pub(super) fn part_number(head: &Head) -> Result<u16, OssError> {
    let text = head.given("partNumber").unwrap_or_default();
    text.parse().ok().filter(|number| (1..=MAX_PARTS).contains(number)).ok_or_else(|| {
        OssError::argument(
            "partNumber",
            text,
            "Part number must be an integer between 1 and 10000, inclusive",
        )
        .ec("0017-00000220")
    })
}

/// The file and offset for a part's bytes.
pub(super) struct Place<'a> {
    upload: String,
    number: u16,
    pub(super) file: File,
    blob: String,
    pub(super) offset: u64,
    _hold: Hold<'a>,
}

/// Finds the place of a part and reserves it.
pub(super) fn reserve<'a>(
    context: &Context<'a>,
    head: &Head,
    (bucket, key): (&str, &str),
    number: u16,
    length: u64,
) -> Result<Place<'a>, OssError> {
    let mut world = context.store.world();
    let mut upload = find(&world, head, bucket, key)?.clone();
    let size = match upload.part_size {
        Some(size) => size,
        None => {
            upload.part_size = Some(length);
            world.uploads.put(upload.clone())?;
            length
        }
    };
    let name = part_key(&upload.id, number);
    let fits = length > 0 && length <= size && world.parts.get(&name).is_none();
    let slot = fits.then(|| context.store.hold_slot(&mut world, &upload.blob, &name)).flatten();
    let (hold, blob, offset) = match slot {
        Some(hold) => (hold, upload.blob, u64::from(number - 1) * size),
        None => {
            let blob = ids::blob();
            (context.store.hold(&mut world, &blob), blob, 0)
        }
    };
    // Only after the lock is released: a hold takes it when it is dropped.
    let opened = context.store.blobs().writer(&blob);
    drop(world);
    Ok(Place { upload: upload.id, number, file: opened?, blob, offset, _hold: hold })
}

/// UploadPart.
pub(crate) async fn upload_part(
    context: &Context<'_>,
    head: &Head,
    (bucket, key): (&str, &str),
    body: &mut RequestBody,
) -> Result<Answer, OssError> {
    let number = part_number(head)?;
    let length = receive::announced(head, false)?.unwrap_or_default();
    if length > MAX_PUT {
        return Err(OssError::new(400, "EntityTooLarge", "A part has at most 5 GB."));
    }
    if let Some(value) = head.header("x-oss-server-side-encryption") {
        return Err(OssError::argument(
            "x-oss-server-side-encryption",
            value,
            "x-oss-server-side-encryption header is not allowed in UploadPart",
        ));
    }
    let claimed = receive::claimed_md5(head)?;
    let place = reserve(context, head, (bucket, key), number, length)?;
    let intake = Intake {
        offset: place.offset,
        limit: length,
        md5: claimed.is_some() || !context.config.fast_etags,
        corrupt: context.plan.corrupt,
    };
    let received = receive::store(body, &place.file, intake).await?;
    receive::check_md5(head, claimed, received.md5)?;
    let part = enter(context, &place, &received)?;
    let answer = Answer::empty(200)
        .with("etag", &format!("\"{}\"", part.etag))
        .with("x-oss-hash-crc64ecma", &part.crc64.to_string());
    Ok(match received.md5 {
        Some(md5) => answer.with("content-md5", &receive::base64(md5)),
        None => answer,
    })
}

/// Registers a stored part, unless its upload has been removed in the meantime.
pub(super) fn enter(
    context: &Context<'_>,
    place: &Place<'_>,
    received: &receive::Received,
) -> Result<Part, OssError> {
    let mut world = context.store.world();
    if world.uploads.get(&place.upload).is_none() {
        return Err(OssError::no_upload(&place.upload));
    }
    let part = Part {
        upload: place.upload.clone(),
        number: place.number,
        crc64: received.crc64,
        etag: received.etag(),
        modified: clock::now(),
        segment: Segment {
            blob: place.blob.clone(),
            offset: place.offset,
            length: received.length,
        },
    };
    if let Some(old) = world.parts.put(part.clone())? {
        world.sweep([old.segment.blob.as_str()])?;
    }
    Ok(part)
}

/// AbortMultipartUpload.
pub(crate) fn abort(
    context: &Context<'_>,
    head: &Head,
    bucket: &str,
    key: &str,
) -> Result<Answer, OssError> {
    let mut world = context.store.world();
    let id = find(&world, head, bucket, key)?.id.clone();
    world.remove_upload(&id)?;
    Ok(Answer::empty(204))
}

/// ListParts.
pub(crate) fn list_parts(
    context: &Context<'_>,
    head: &Head,
    bucket: &str,
    key: &str,
) -> Result<Answer, OssError> {
    let listing = Listing::read(head)?;
    let limit = listing.limit(head, "max-parts", 1000)?;
    let marker = match head.given("part-number-marker") {
        None => 0,
        Some(text) => text.parse::<u16>().map_err(|_| {
            OssError::argument("part-number-marker", text, "part-number-marker must be a number")
        })?,
    };
    let world = context.store.world();
    let upload = find(&world, head, bucket, key)?;
    let mut rest = world.parts_of(&upload.id).filter(|part| part.number > marker);
    let page: Vec<&Part> = rest.by_ref().take(limit).collect();
    let truncated = rest.next().is_some();
    let next = page.last().map_or(marker, |part| part.number);
    let class = upload.headers.get("x-oss-storage-class").map_or("Standard", String::as_str);
    let mut xml = Xml::new("ListPartsResult");
    listing.tell(&mut xml);
    xml.leaf("Bucket", bucket)
        .leaf("Key", &listing.name(key))
        .leaf("UploadId", &upload.id)
        .leaf("StorageClass", class)
        .leaf("PartNumberMarker", &marker.to_string())
        .leaf("NextPartNumberMarker", &next.to_string())
        .leaf("MaxParts", &limit.to_string())
        .leaf("IsTruncated", if truncated { "true" } else { "false" });
    for part in page {
        xml.node("Part", |node| {
            node.leaf("PartNumber", &part.number.to_string())
                .leaf("LastModified", &clock::iso_zeros(part.modified))
                .leaf("ETag", &format!("\"{}\"", part.etag))
                .leaf("Size", &part.segment.length.to_string());
            if !context.plan.hide_checksum {
                node.leaf("HashCrc64ecma", &part.crc64.to_string());
            }
        });
    }
    Ok(Answer::text(200, "application/xml", xml.finish()))
}
