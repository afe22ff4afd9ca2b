//! Reads the database of apk. Source: the Alpine wiki, "Apk spec", "Installed Database V2".

use super::Package;
use super::stanza::{field, paragraphs};
use crate::source::Source;
use crate::tree::Tree;

const PLACES: [&str; 2] = ["/usr/lib/apk/db/installed", "/lib/apk/db/installed"];
const FIELDS: [&str; 6] = ["P", "V", "A", "o", "m", "L"];

/// Returns the installed packages.
pub(super) fn read(tree: &Tree, source: &Source) -> Vec<Package> {
    let mut found = Vec::new();
    let Some(opened) = PLACES.iter().find_map(|path| tree.open(path)) else { return found };
    paragraphs(opened.reader, source, ':', &FIELDS, |fields| {
        let get = |name: &str| field(fields, name).map(str::to_owned);
        let (Some(name), Some(version)) = (get("P"), get("V")) else { return };
        let architecture = get("A").unwrap_or_default();
        let (source, maintainer, licence) = (get("o").filter(|o| *o != name), get("m"), get("L"));
        let kind = "apk".to_owned();
        found.push(Package { name, version, architecture, source, maintainer, licence, kind });
    });
    found
}
