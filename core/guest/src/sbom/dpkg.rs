//! Reads the database of dpkg. Source: deb-control(5), dpkg-query(1): a package is installed if the third word of its
//! status is `installed`. Images without a shell keep each package in a file below status.d.

use super::Package;
use super::stanza::{field, paragraphs};
use crate::fs::Kind;
use crate::source::Source;
use crate::tree::Tree;

const STATUS: &str = "/var/lib/dpkg/status";
const DIRECTORY: &str = "/var/lib/dpkg/status.d";
const FIELDS: [&str; 6] = ["Package", "Version", "Architecture", "Status", "Source", "Maintainer"];

/// Returns the installed packages.
pub(super) fn read(tree: &Tree, source: &Source) -> Vec<Package> {
    let mut found = Vec::new();
    let files = tree.list(DIRECTORY).into_iter();
    let files = files.filter(|entry| entry.kind == Kind::File && !entry.name.ends_with(".md5sums"));
    let files = files.map(|entry| format!("{DIRECTORY}/{}", entry.name));
    for path in std::iter::once(STATUS.to_owned()).chain(files) {
        let Some(opened) = tree.open(&path) else { continue };
        paragraphs(opened.reader, source, ':', &FIELDS, |fields| {
            found.extend(package(fields));
        });
    }
    found
}

fn package(fields: &[(String, String)]) -> Option<Package> {
    let get = |name: &str| field(fields, name).map(str::to_owned);
    // Files below status.d have no status.
    let is_installed =
        get("Status").is_none_or(|status| status.split_whitespace().nth(2) == Some("installed"));
    if !is_installed {
        return None;
    }
    Some(Package {
        name: get("Package")?,
        version: get("Version")?,
        architecture: get("Architecture").unwrap_or_default(),
        source: get("Source"),
        maintainer: get("Maintainer"),
        licence: None,
        kind: "deb".to_owned(),
    })
}
