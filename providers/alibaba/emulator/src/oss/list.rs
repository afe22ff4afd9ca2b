//! Implements lists of objects, and the common part of all lists: the requested key encoding, page lengths.
//! Parameters that are given but empty count as not given.

use std::collections::BTreeSet;

use super::bucket;
use super::error::OssError;
use super::xml::Xml;
use crate::auth::encode;
use crate::clock;
use crate::http::{Answer, Head};
use crate::service::Context;
use crate::state::{Object, World, object_key};

/// The encoding of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listing {
    url: bool,
}

impl Listing {
    /// Reads `encoding-type`.
    pub(crate) fn read(head: &Head) -> Result<Self, OssError> {
        match head.given("encoding-type") {
            None => Ok(Self { url: false }),
            Some("url") => Ok(Self { url: true }),
            Some(other) => Err(OssError::argument(
                "encoding-type",
                other,
                "Invalid Encoding Method specified in Request",
            )),
        }
    }

    /// A key, prefix, or marker in this encoding.
    pub(crate) fn name(self, name: &str) -> String {
        if self.url { encode::component(name) } else { name.to_owned() }
    }

    /// Writes the encoding to the answer.
    pub(crate) fn tell(self, xml: &mut Xml) {
        if self.url {
            xml.leaf("EncodingType", "url");
        }
    }

    /// Length of a page: 1 to 1000.
    pub(crate) fn limit(self, head: &Head, name: &str, default: usize) -> Result<usize, OssError> {
        let Some(text) = head.given(name) else { return Ok(default) };
        text.parse().ok().filter(|limit| (1..=1000).contains(limit)).ok_or_else(|| {
            OssError::argument(
                name,
                text,
                &format!("Argument {name} must be an integer between 1 and 1000."),
            )
        })
    }
}

/// One page of keys below a prefix, folded at a delimiter.
struct Page<'a> {
    objects: Vec<&'a Object>,
    directories: BTreeSet<String>,
    /// Last key or directory of the page, if more follow.
    next: Option<String>,
}

fn page<'a>(
    world: &'a World,
    bucket: &str,
    (prefix, delimiter, after): (&str, &str, &str),
    limit: usize,
) -> Page<'a> {
    let mut page = Page { objects: Vec::new(), directories: BTreeSet::new(), next: None };
    let mut last = String::new();
    let start = object_key(bucket, prefix);
    for object in world.objects.with_prefix(&start) {
        let directory = if delimiter.is_empty() {
            None
        } else {
            object.name[prefix.len()..]
                .find(delimiter)
                .map(|at| &object.name[..prefix.len() + at + delimiter.len()])
        };
        let entry = directory.unwrap_or(&object.name);
        if entry <= after || page.directories.contains(entry) {
            continue;
        }
        if page.objects.len() + page.directories.len() == limit {
            page.next = Some(last);
            break;
        }
        entry.clone_into(&mut last);
        match directory {
            Some(directory) => {
                page.directories.insert(directory.to_owned());
            }
            None => page.objects.push(object),
        }
    }
    page
}

/// ListObjectsV2, and ListObjects where `second` is false.
pub(crate) fn list_objects(
    context: &Context<'_>,
    head: &Head,
    bucket: &str,
    second: bool,
) -> Result<Answer, OssError> {
    let listing = Listing::read(head)?;
    let limit = listing.limit(head, "max-keys", 100)?;
    let word = |name: &str| head.given(name).unwrap_or_default();
    let (prefix, delimiter) = (word("prefix"), word("delimiter"));
    let token = word("continuation-token");
    let after = if !second {
        word("marker")
    } else if token.is_empty() {
        word("start-after")
    } else {
        token
    };
    let owner = !second || head.given("fetch-owner") == Some("true");
    let world = context.store.world();
    let page = page(&world, bucket, (prefix, delimiter, after), limit);
    let mut xml = Xml::new("ListBucketResult");
    listing.tell(&mut xml);
    xml.leaf("Name", bucket)
        .leaf("Prefix", &listing.name(prefix))
        .leaf("MaxKeys", &limit.to_string())
        .leaf("Delimiter", &listing.name(delimiter))
        .leaf("IsTruncated", if page.next.is_some() { "true" } else { "false" });
    let next = page.next.as_deref().map(|next| listing.name(next));
    if second {
        let count = page.objects.len() + page.directories.len();
        xml.leaf("KeyCount", &count.to_string());
        xml.leaf("StartAfter", &listing.name(word("start-after")));
        xml.leaf("ContinuationToken", &listing.name(token));
        if let Some(next) = &next {
            xml.leaf("NextContinuationToken", next);
        }
    } else {
        xml.leaf("Marker", &listing.name(after));
        if let Some(next) = &next {
            xml.leaf("NextMarker", next);
        }
    }
    for object in page.objects {
        contents(&mut xml, listing, object, owner);
    }
    for directory in &page.directories {
        xml.node("CommonPrefixes", |node| {
            node.leaf("Prefix", &listing.name(directory));
        });
    }
    Ok(Answer::text(200, "application/xml", xml.finish()))
}

fn contents(xml: &mut Xml, listing: Listing, object: &Object, owner: bool) {
    let class = object.headers.get("x-oss-storage-class").map_or("Standard", String::as_str);
    xml.node("Contents", |node| {
        node.leaf("Key", &listing.name(&object.name))
            .leaf("LastModified", &clock::iso_zeros(object.modified))
            .leaf("ETag", &format!("\"{}\"", object.etag))
            .leaf("Type", &object.object_type)
            .leaf("Size", &object.length.to_string())
            .leaf("StorageClass", class);
        if owner {
            bucket::owner(node);
        }
    });
}
