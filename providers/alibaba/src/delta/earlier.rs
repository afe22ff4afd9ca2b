//! Finds the earlier object that unchanged parts are copied from.
//!
//! The key of a manifest is that of its object and a mark of the lineage: one list finds the newest object of a lineage,
//! since keys contain the time of the run. A lineage is the family of the image, or else the name of the disk without
//! digits and punctuation, which change from version to version.

use build_image_plugin_api::{
    document::Build,
    ready::marks,
    retry::{Failure, Policy},
};

use super::{
    Options,
    manifest::{self, Described, LONGEST, Manifest},
};
use crate::{
    config::Config,
    import::hex,
    marks::{PREFIX, run_of_key},
    oss::Oss,
};

/// What precedes the mark of the lineage in the key of a manifest, and what follows it.
const MARK: &str = ".parts-";
const END: &str = ".json";
/// Bytes of the mark.
const MARK_BYTES: usize = 8;
/// Maximum number of earlier objects that are tried.
const TRIED: usize = 4;
/// A base is worth little waiting: without one, everything is sent.
const POLICY: Policy = Policy::BRIEF;

/// An earlier object with its manifest.
pub(super) struct Found {
    pub(super) object: Described,
    pub(super) manifest: Manifest,
}

/// The key of the manifest of an object.
pub(crate) fn manifest_key(config: &Config, build: &Build, key: &str) -> String {
    format!("{key}{MARK}{}{END}", lineage(config, build))
}

/// The mark of the lineage, in hexadecimal.
fn lineage(config: &Config, build: &Build) -> String {
    hex(marks::lineage(config.family.as_deref(), build).as_bytes(), MARK_BYTES)
}

/// Keys of the objects to try, the newest first, each with the key of its manifest.
pub(super) async fn candidates(
    oss: &Oss,
    config: &Config,
    build: &Build,
) -> Result<Vec<(String, String)>, Failure> {
    let Options { base, .. } = &config.delta;
    let (start, end) = match base {
        Some(key) => (format!("{key}{MARK}"), END.to_owned()),
        None => {
            let start = format!("{}{PREFIX}", config.prefix);
            (start, format!("{MARK}{}{END}", lineage(config, build)))
        }
    };
    let keys = oss.keys(&start, &POLICY).await?.into_iter();
    let mut found: Vec<(String, String)> = keys
        .filter(|key| key.ends_with(&end))
        .filter_map(|manifest| {
            let (object, _) = manifest.rsplit_once(MARK)?;
            let is_meant = match base {
                Some(key) => key == object,
                None => run_of_key(&config.prefix, object).is_some_and(|run| run != build.run_id),
            };
            is_meant.then(|| (object.to_owned(), manifest.clone()))
        })
        .collect();
    found.sort();
    found.reverse();
    found.truncate(TRIED);
    Ok(found)
}

/// Reads a candidate; otherwise, why it cannot be used.
pub(super) async fn read(
    oss: &Oss,
    (key, manifest_key): &(String, String),
) -> Result<Result<Found, String>, Failure> {
    let object = match oss.described(key, &POLICY).await? {
        Ok(object) => object,
        Err(why) => return Ok(Err(why)),
    };
    let Some(text) = oss.beginning(manifest_key, LONGEST + 1, &POLICY).await? else {
        return Ok(Err("its manifest does not exist".to_owned()));
    };
    let read = tokio::task::spawn_blocking(move || {
        manifest::read(&text, &object).map(|manifest| Found { object, manifest })
    });
    Ok(read.await.unwrap_or_else(|_| Err("its manifest cannot be read".to_owned())))
}
