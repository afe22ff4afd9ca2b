//! Implements ListMultipartUploads: open uploads of a bucket in the order of their keys.

use std::collections::BTreeSet;

use super::error::OssError;
use super::list::Listing;
use super::xml::Xml;
use crate::clock;
use crate::http::{Answer, Head};
use crate::service::Context;
use crate::state::Upload;

/// One page of open uploads below a prefix, folded at a delimiter.
struct Page<'a> {
    uploads: Vec<&'a Upload>,
    directories: BTreeSet<String>,
    /// Key and upload id to continue from, if more follow.
    next: Option<(String, String)>,
}

/// Folds uploads, which are in the order of their keys, into a page.
fn page<'a>(
    uploads: Vec<&'a Upload>,
    (prefix, delimiter, key_marker): (&str, &str, &str),
    limit: usize,
) -> Page<'a> {
    let mut page = Page { uploads: Vec::new(), directories: BTreeSet::new(), next: None };
    let mut last = (String::new(), String::new());
    for upload in uploads {
        let directory = (!delimiter.is_empty())
            .then(|| upload.name[prefix.len()..].find(delimiter))
            .flatten()
            .map(|at| upload.name[..prefix.len() + at + delimiter.len()].to_owned());
        // A directory that is the marker was already listed on the previous page.
        if directory
            .as_ref()
            .is_some_and(|f| page.directories.contains(f) || f.as_str() <= key_marker)
        {
            continue;
        }
        if page.uploads.len() + page.directories.len() == limit {
            page.next = Some(last);
            break;
        }
        match directory {
            Some(directory) => {
                last = (directory.clone(), String::new());
                page.directories.insert(directory);
            }
            None => {
                last = (upload.name.clone(), upload.id.clone());
                page.uploads.push(upload);
            }
        }
    }
    page
}

/// ListMultipartUploads.
pub(crate) fn list(context: &Context<'_>, head: &Head, bucket: &str) -> Result<Answer, OssError> {
    let listing = Listing::read(head)?;
    let limit = listing.limit(head, "max-uploads", 1000)?;
    let word = |name: &str| head.given(name).unwrap_or_default();
    let (prefix, delimiter) = (word("prefix"), word("delimiter"));
    let (key_marker, id_marker) = (word("key-marker"), word("upload-id-marker"));
    let world = context.store.world();
    let mut uploads: Vec<&Upload> = world
        .uploads
        .iter()
        .filter(|upload| upload.bucket == bucket && upload.name.starts_with(prefix))
        .filter(|upload| {
            upload.name.as_str() > key_marker
                || (upload.name == key_marker && !id_marker.is_empty() && *upload.id > *id_marker)
        })
        .collect();
    uploads.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let page = page(uploads, (prefix, delimiter, key_marker), limit);
    let truncated = page.next.is_some();
    let (next_key, next_id) = page.next.unwrap_or_default();
    let mut xml = Xml::new("ListMultipartUploadsResult");
    listing.tell(&mut xml);
    xml.leaf("Bucket", bucket)
        .leaf("KeyMarker", &listing.name(key_marker))
        .leaf("UploadIdMarker", id_marker)
        .leaf("NextKeyMarker", &listing.name(&next_key))
        .leaf("NextUploadIdMarker", &next_id)
        .leaf("Delimiter", &listing.name(delimiter))
        .leaf("Prefix", &listing.name(prefix))
        .leaf("MaxUploads", &limit.to_string())
        .leaf("IsTruncated", if truncated { "true" } else { "false" });
    for upload in page.uploads {
        let class = upload.headers.get("x-oss-storage-class").map_or("Standard", String::as_str);
        xml.node("Upload", |node| {
            node.leaf("Key", &listing.name(&upload.name))
                .leaf("UploadId", &upload.id)
                .leaf("StorageClass", class)
                .leaf("Initiated", &clock::iso_zeros(upload.initiated));
        });
    }
    for directory in &page.directories {
        xml.node("CommonPrefixes", |node| {
            node.leaf("Prefix", &listing.name(directory));
        });
    }
    Ok(Answer::text(200, "application/xml", xml.finish()))
}
