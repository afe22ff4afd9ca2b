//! Implements CopyObject: the copy shares the bytes of its source, nothing is moved.

use super::error::OssError;
use super::object::{self, MAX_PUT};
use super::xml::Xml;
use super::{conditions, encryption, names};
use crate::auth::encode;
use crate::clock;
use crate::http::{Answer, Head};
use crate::service::Context;
use crate::state::{Object, World, object_key};

const SOURCE: &str = "x-oss-copy-source";

/// Whether a request has a source to copy from.
pub(super) fn is_meant(head: &Head) -> bool {
    head.headers.contains_key(SOURCE)
}

/// Bucket and key in `x-oss-copy-source: /bucket/key`, percent-encoded.
fn source_name(head: &Head) -> Result<(String, String), OssError> {
    let text = head.header(SOURCE).unwrap_or_default();
    let bad = || {
        OssError::argument(
            SOURCE,
            text,
            "Copy Source must mention the source bucket and key: /sourcebucket/sourcekey.",
        )
    };
    let plain = text.strip_prefix('/').unwrap_or(text);
    let (name, version) = plain.split_once('?').unwrap_or((plain, ""));
    if !version.is_empty() {
        return Err(OssError::argument(SOURCE, text, "The source bucket has no versions."));
    }
    let (bucket, key) = match name.split_once('/') {
        Some((bucket, key)) => (encode::decode(bucket), encode::decode(key)),
        None => {
            let whole = encode::decode(name).ok_or_else(bad)?;
            let (bucket, key) = whole.split_once('/').ok_or_else(bad)?;
            (Some(bucket.to_owned()), Some(key.to_owned()))
        }
    };
    let (bucket, key) = (bucket.ok_or_else(bad)?, key.ok_or_else(bad)?);
    if key.is_empty() || !names::is_bucket_name(&bucket) {
        return Err(bad());
    }
    Ok((bucket, key))
}

/// The object to copy from, if its conditions hold.
pub(super) fn source(world: &World, head: &Head, target_bucket: &str) -> Result<Object, OssError> {
    let (from, key) = source_name(head)?;
    let region = |name: &str| {
        world.buckets.get(name).map(|found| &found.region).ok_or_else(|| OssError::no_bucket(name))
    };
    if region(&from)? != region(target_bucket)? {
        return Err(OssError::new(
            403,
            "AccessDenied",
            "Target object does not reside in the same data center as source object.",
        ));
    }
    let object = world.objects.get(&object_key(&from, &key)).cloned();
    let object = object.ok_or_else(|| OssError::no_key(&key))?;
    conditions::check(head, &object, &conditions::SOURCE)?;
    Ok(object)
}

/// CopyObject.
pub(super) fn copy(
    context: &Context<'_>,
    head: &Head,
    bucket: &str,
    key: &str,
) -> Result<Answer, OssError> {
    // Held to the end: the bytes of the source must not be removed in between.
    let mut world = context.store.world();
    let source = source(&world, head, bucket)?;
    if source.length > MAX_PUT {
        return Err(OssError::new(
            400,
            "EntityTooLarge",
            "An object copied at once has at most 5 GB.",
        ));
    }
    let mut headers = match head.header("x-oss-metadata-directive").unwrap_or("COPY") {
        word if word.eq_ignore_ascii_case("COPY") => {
            let mut kept = source.headers.clone();
            // The target has its own storage class and encryption.
            kept.retain(|name, _| !object::OWN.contains(&name.as_str()));
            let own = object::kept_headers(head)?;
            kept.extend(own.into_iter().filter(|(name, _)| object::OWN.contains(&name.as_str())));
            kept
        }
        word if word.eq_ignore_ascii_case("REPLACE") => object::kept_headers(head)?,
        other => {
            return Err(OssError::argument(
                "x-oss-metadata-directive",
                other,
                "Unknown metadata directive.",
            ));
        }
    };
    encryption::apply(&world, bucket, &mut headers);
    object::check_overwrite(&world, head, bucket, key)?;
    let object = Object {
        bucket: bucket.to_owned(),
        name: key.to_owned(),
        modified: clock::now(),
        headers,
        ..source
    };
    let etag = format!("\"{}\"", object.etag);
    let mut xml = Xml::new("CopyObjectResult");
    xml.leaf("ETag", &etag).leaf("LastModified", &clock::iso_zeros(object.modified));
    let answer = Answer::text(200, "application/xml", xml.finish())
        .with("etag", &etag)
        .with("x-oss-hash-crc64ecma", &object.crc64.to_string());
    world.put_object(object)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::source_name;
    use crate::http::Head;

    #[test]
    fn sources_are_read_encoded_or_plain() {
        let read = |text: &str| {
            let mut head = Head::default();
            head.headers.insert("x-oss-copy-source", HeaderValue::from_str(text).unwrap());
            source_name(&head).map_err(|error| error.code)
        };
        let pair = |bucket: &str, key: &str| Ok((bucket.to_owned(), key.to_owned()));
        assert_eq!(read("/demo/dir%2Fa%20b"), pair("demo", "dir/a b"));
        assert_eq!(read("/demo/dir/a+b"), pair("demo", "dir/a+b"));
        assert_eq!(read("/demo%2Fk"), pair("demo", "k"));
        for bad in ["", "/", "/demo", "/demo/", "/../k", "/demo/k?versionId=1", "/demo/%ff"] {
            assert_eq!(read(bad), Err("InvalidArgument".to_owned()), "{bad}");
        }
    }
}
