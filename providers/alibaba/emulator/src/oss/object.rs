//! Implements PutObject, GetObject, HeadObject, GetObjectMeta, DeleteObject.

use std::collections::BTreeMap;

use super::error::OssError;
use super::range;
use super::receive::{self, Intake};
use super::{conditions, encryption};
use crate::clock;
use crate::http::{Answer, FileRun, Head, Payload, RequestBody};
use crate::ids;
use crate::service::Context;
use crate::state::{Object, Segment, World, object_key};

/// Maximum number of bytes of one PutObject or one part.
pub(crate) const MAX_PUT: u64 = 5 << 30;

/// Request headers that are stored and returned with the object.
const KEPT: [&str; 8] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-oss-server-side-encryption",
    "x-oss-storage-class",
];
/// Headers that a copy does not inherit from its source.
pub(super) const OWN: [&str; 2] = ["x-oss-server-side-encryption", "x-oss-storage-class"];
/// Query parameters of GetObject that set a header of the answer.
const OVERRIDES: [(&str, &str); 6] = [
    ("response-cache-control", "cache-control"),
    ("response-content-disposition", "content-disposition"),
    ("response-content-encoding", "content-encoding"),
    ("response-content-language", "content-language"),
    ("response-content-type", "content-type"),
    ("response-expires", "expires"),
];
const STORAGE_CLASSES: [&str; 5] = ["Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"];
const MAX_META: usize = 8 << 10;

/// The headers that a new object stores.
pub(crate) fn kept_headers(head: &Head) -> Result<BTreeMap<String, String>, OssError> {
    let mut kept = BTreeMap::new();
    let mut meta = 0;
    for name in head.headers.keys().map(|name| name.as_str()) {
        let is_meta = name.starts_with("x-oss-meta-");
        let Some(value) = head.header(name).filter(|_| is_meta || KEPT.contains(&name)) else {
            continue;
        };
        if is_meta {
            meta += name.len() + value.len();
        }
        kept.insert(name.to_owned(), value.to_owned());
    }
    if meta > MAX_META {
        return Err(OssError::new(400, "MetadataTooLarge", "The metadata is longer than 8 KB."));
    }
    let class = kept.get("x-oss-storage-class").map_or("Standard", String::as_str);
    if !STORAGE_CLASSES.contains(&class) {
        return Err(OssError::argument("x-oss-storage-class", class, "no such storage class"));
    }
    Ok(kept)
}

/// Refuses to replace an object if the client requested that.
pub(crate) fn check_overwrite(
    world: &World,
    head: &Head,
    bucket: &str,
    key: &str,
) -> Result<(), OssError> {
    let forbid =
        head.header("x-oss-forbid-overwrite").is_some_and(|v| v.eq_ignore_ascii_case("true"));
    let taken = || world.objects.get(&object_key(bucket, key)).is_some();
    if forbid && taken() { Err(OssError::exists(key)) } else { Ok(()) }
}

/// PutObject: the body becomes the object.
pub(crate) async fn put(
    context: &Context<'_>,
    head: &Head,
    (bucket, key): (&str, &str),
    body: &mut RequestBody,
) -> Result<Answer, OssError> {
    let length = receive::announced(head, true)?;
    if length.is_some_and(|length| length > MAX_PUT) {
        return Err(OssError::new(
            400,
            "EntityTooLarge",
            "An object put at once has at most 5 GB.",
        ));
    }
    let claimed = receive::claimed_md5(head)?;
    let mut headers = kept_headers(head)?;
    let blob = ids::blob();
    let hold = {
        let mut world = context.store.world();
        encryption::apply(&world, bucket, &mut headers);
        check_overwrite(&world, head, bucket, key)?;
        context.store.hold(&mut world, &blob)
    };
    let file = context.store.blobs().writer(&blob)?;
    let intake = Intake { offset: 0, limit: MAX_PUT, md5: true, corrupt: context.plan.corrupt };
    let received = receive::store(body, &file, intake).await?;
    receive::check_md5(head, claimed, received.md5)?;
    let length = received.length;
    let object = Object {
        bucket: bucket.to_owned(),
        name: key.to_owned(),
        length,
        crc64: received.crc64,
        etag: received.etag(),
        modified: clock::now(),
        object_type: "Normal".to_owned(),
        headers,
        segments: crate::state::merge([Segment { blob, offset: 0, length }]),
    };
    // Checked again: another request may have been first. A hold must not be dropped under the lock.
    {
        let mut world = context.store.world();
        check_overwrite(&world, head, bucket, key)?;
        world.put_object(object)?;
    }
    drop(hold);
    let answer = Answer::empty(200)
        .with("etag", &format!("\"{}\"", received.etag()))
        .with("x-oss-hash-crc64ecma", &received.crc64.to_string());
    Ok(match received.md5 {
        Some(md5) => answer.with("content-md5", &receive::base64(md5)),
        None => answer,
    })
}

fn find(world: &World, bucket: &str, key: &str) -> Result<Object, OssError> {
    world.objects.get(&object_key(bucket, key)).cloned().ok_or_else(|| OssError::no_key(key))
}

fn describe(object: &Object, mut answer: Answer) -> Answer {
    answer = answer
        .with("content-type", "application/octet-stream")
        .with("x-oss-storage-class", "Standard");
    for (name, value) in &object.headers {
        answer = answer.with(name, value);
    }
    answer
        .with("accept-ranges", "bytes")
        .with("etag", &format!("\"{}\"", object.etag))
        .with("last-modified", &clock::rfc1123(object.modified))
        .with("x-oss-object-type", &object.object_type)
        .with("x-oss-hash-crc64ecma", &object.crc64.to_string())
}

/// HeadObject.
pub(crate) fn head(
    context: &Context<'_>,
    head: &Head,
    bucket: &str,
    key: &str,
) -> Result<Answer, OssError> {
    let object = find(&context.store.world(), bucket, key)?;
    conditions::check(head, &object, &conditions::OBJECT)?;
    let length = object.length.to_string();
    Ok(describe(&object, Answer::empty(200)).with("content-length", &length))
}

/// GetObjectMeta: the few headers that do not depend on the object's stored headers.
pub(crate) fn meta(
    context: &Context<'_>,
    head: &Head,
    bucket: &str,
    key: &str,
) -> Result<Answer, OssError> {
    let object = find(&context.store.world(), bucket, key)?;
    let length = if head.method == "HEAD" { object.length } else { 0 };
    Ok(Answer::empty(200)
        .with("etag", &format!("\"{}\"", object.etag))
        .with("last-modified", &clock::rfc1123(object.modified))
        .with("x-oss-hash-crc64ecma", &object.crc64.to_string())
        .with("content-length", &length.to_string()))
}

/// Opens the bytes of an object, from `first` on. Must be called under the lock the object was found under:
/// without it, its files may have been removed.
pub(super) fn runs(
    context: &Context<'_>,
    object: &Object,
    (first, length): (u64, u64),
) -> Result<Vec<FileRun>, OssError> {
    let mut runs = Vec::new();
    let mut start = 0;
    for segment in &object.segments {
        let end = start + segment.length;
        let from = first.max(start);
        let to = (first + length).min(end);
        if from < to {
            runs.push(FileRun {
                file: context.store.blobs().reader(&segment.blob)?,
                offset: segment.offset + (from - start),
                length: to - from,
            });
        }
        start = end;
    }
    Ok(runs)
}

/// GetObject, whole or a range.
pub(crate) fn get(
    context: &Context<'_>,
    head: &Head,
    bucket: &str,
    key: &str,
) -> Result<Answer, OssError> {
    let world = context.store.world();
    let object = find(&world, bucket, key)?;
    conditions::check(head, &object, &conditions::OBJECT)?;
    let range = range::read(head, object.length)?;
    let (first, length) = range.unwrap_or((0, object.length));
    let mut answer = Answer::empty(if range.is_some() { 206 } else { 200 });
    answer.payload = Payload::Files(runs(context, &object, (first, length))?);
    drop(world);
    if range.is_some() {
        let text = format!("bytes {first}-{}/{}", first + length - 1, object.length);
        answer = answer.with("content-range", &text);
    }
    answer = describe(&object, answer);
    for (parameter, name) in OVERRIDES {
        if let Some(value) = head.given(parameter) {
            answer = answer.with(name, value);
        }
    }
    Ok(answer)
}

/// DeleteObject: 204, even when the object does not exist.
pub(crate) fn delete(context: &Context<'_>, bucket: &str, key: &str) -> Result<Answer, OssError> {
    context.store.world().remove_object(&object_key(bucket, key))?;
    Ok(Answer::empty(204))
}
