//! Implements CompleteMultipartUpload: checks the list of parts and makes the object from them without moving
//! a byte; the object's CRC-64 is combined from those of its parts.

use md5::{Digest as _, Md5};

use super::error::OssError;
use super::list::Listing;
use super::multipart::{self, MAX_PARTS};
use super::read_xml::{elements, malformed};
use super::receive;
use super::xml::Xml;
use crate::clock;
use crate::http::{Answer, Head, RequestBody};
use crate::ids;
use crate::service::Context;
use crate::state::{Object, Part, merge};

/// Minimum length of every part except the last, in bytes.
const MIN_PART: u64 = 100 << 10;
/// Ten thousand parts with long ETags stay well below this.
const MAX_BODY: u64 = 4 << 20;

/// A part as the client lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    number: u16,
    /// Without quotes.
    etag: String,
}

/// Reads `CompleteMultipartUpload/Part/{PartNumber,ETag}`.
pub(super) fn read_list(text: &[u8]) -> Result<Vec<Listed>, OssError> {
    let (mut number, mut etag) = (None, String::new());
    let mut parts = Vec::new();
    for element in elements(text)? {
        match element.path.as_str() {
            "CompleteMultipartUpload/Part/PartNumber" => {
                number = element.text.trim().parse().ok();
            }
            "CompleteMultipartUpload/Part/ETag" => {
                element.text.trim().trim_matches('"').clone_into(&mut etag);
            }
            "CompleteMultipartUpload/Part" => {
                let number = number.take().ok_or_else(|| malformed("a PartNumber is missing"))?;
                parts.push(Listed { number, etag: std::mem::take(&mut etag) });
            }
            _ => {}
        }
    }
    Ok(parts)
}

/// The stored parts that the client lists, checked.
fn choose(stored: &[Part], listed: &[Listed]) -> Result<Vec<Part>, OssError> {
    if listed.windows(2).any(|pair| pair[0].number >= pair[1].number) {
        return Err(OssError::new(
            400,
            "InvalidPartOrder",
            "The list of parts was not in ascending order. The parts list must be specified in \
             order by part number.",
        ));
    }
    let missing_error = |number: u16| {
        OssError::new(
            400,
            "InvalidPart",
            "One or more of the specified parts could not be found or the specified entity tag \
             might not have matched the part's entity tag.",
        )
        .with("PartNumber", &number.to_string())
    };
    let find = |listed: &Listed| {
        stored
            .binary_search_by_key(&listed.number, |part| part.number)
            .ok()
            .map(|index| stored[index].clone())
            .filter(|part| part.etag.eq_ignore_ascii_case(&listed.etag))
            .ok_or_else(|| missing_error(listed.number))
    };
    listed.iter().map(find).collect()
}

fn check_sizes(parts: &[Part]) -> Result<(), OssError> {
    let all_but_last = parts.split_last().map_or(&[][..], |(_, rest)| rest);
    match all_but_last.iter().find(|part| part.segment.length < MIN_PART) {
        None => Ok(()),
        Some(part) => Err(OssError::new(
            400,
            "EntityTooSmall",
            "Your proposed upload smaller than the minimum allowed size.",
        )
        .ec("0042-00000213")
        .with("MinSizeAllowed", &MIN_PART.to_string())
        .with("ProposedSize", &part.segment.length.to_string())
        .with("PartNumber", &part.number.to_string())),
    }
}

fn assemble(bucket: &str, key: &str, parts: &[Part]) -> Object {
    let mut names = Md5::new();
    let mut crc64 = 0;
    for part in parts {
        names.update(part.etag.as_bytes());
        crc64 = receive::combine(crc64, part.crc64, part.segment.length);
    }
    Object {
        bucket: bucket.to_owned(),
        name: key.to_owned(),
        length: parts.iter().map(|part| part.segment.length).sum(),
        crc64,
        etag: format!("{}-{}", ids::hex(&names.finalize()).to_uppercase(), parts.len()),
        modified: clock::now(),
        object_type: "Multipart".to_owned(),
        headers: std::collections::BTreeMap::new(),
        segments: merge(parts.iter().map(|part| part.segment.clone())),
    }
}

/// CompleteMultipartUpload, with a list of parts or with `x-oss-complete-all: yes`.
pub(crate) async fn complete(
    context: &Context<'_>,
    head: &Head,
    (bucket, key): (&str, &str),
    body: &mut RequestBody,
) -> Result<Answer, OssError> {
    let listing = Listing::read(head)?;
    let text = body.whole(MAX_BODY).await?;
    let claimed = receive::claimed_md5(head)?;
    receive::check_md5(head, claimed, Some(Md5::digest(&text).into()))?;
    let all = head.header("x-oss-complete-all").is_some_and(|v| v.eq_ignore_ascii_case("yes"));
    let listed = match (all, text.is_empty()) {
        (true, true) => None,
        (true, false) => {
            return Err(OssError::argument(
                "x-oss-complete-all",
                "yes",
                "The request body must be empty when x-oss-complete-all is yes",
            ));
        }
        (false, _) => Some(read_list(&text)?),
    };
    let mut world = context.store.world();
    let upload = multipart::find(&world, head, bucket, key)?.clone();
    let stored: Vec<Part> = world.parts_of(&upload.id).cloned().collect();
    let parts = match listed {
        Some(listed) => choose(&stored, &listed)?,
        None => stored,
    };
    if parts.is_empty() || parts.len() > usize::from(MAX_PARTS) {
        return Err(malformed("an object has 1 to 10000 parts"));
    }
    check_sizes(&parts)?;
    let mut object = assemble(bucket, key, &parts);
    object.headers = upload.headers;
    let forbid =
        head.header("x-oss-forbid-overwrite").is_some_and(|v| v.eq_ignore_ascii_case("true"));
    if forbid && world.objects.get(&crate::state::object_key(bucket, key)).is_some() {
        return Err(OssError::exists(key));
    }
    let answer = answer(head, &listing, &object);
    world.put_object(object)?;
    world.remove_upload(&upload.id)?;
    Ok(answer)
}

fn answer(head: &Head, listing: &Listing, object: &Object) -> Answer {
    let etag = format!("\"{}\"", object.etag);
    let mut xml = Xml::new("CompleteMultipartUploadResult");
    listing.tell(&mut xml);
    xml.leaf("Location", &format!("http://{}{}", head.host, head.raw_path))
        .leaf("Bucket", &object.bucket)
        .leaf("Key", &listing.name(&object.name))
        .leaf("ETag", &etag);
    Answer::text(200, "application/xml", xml.finish())
        .with("etag", &etag)
        .with("x-oss-hash-crc64ecma", &object.crc64.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Listed, read_list};

    #[test]
    fn part_lists_are_read_with_or_without_quotes_and_blanks() {
        let text = br#"<?xml version="1.0"?>
            <CompleteMultipartUpload>
              <Part><PartNumber>1</PartNumber><ETag>"A1"</ETag></Part>
              <Part><ETag>&quot;B2&quot;</ETag><PartNumber> 7 </PartNumber></Part>
            </CompleteMultipartUpload>"#;
        let expected =
            [("A1", 1), ("B2", 7)].map(|(etag, number)| Listed { number, etag: etag.to_owned() });
        assert_eq!(read_list(text).unwrap(), expected);
    }

    #[test]
    fn broken_lists_are_refused() {
        for text in [
            "<CompleteMultipartUpload><Part>",
            "<CompleteMultipartUpload><Part><PartNumber>x</PartNumber></Part></CompleteMultipartUpload>",
            "<a></b>",
        ] {
            assert_eq!(read_list(text.as_bytes()).unwrap_err().code, "MalformedXML", "{text}");
        }
    }
}
