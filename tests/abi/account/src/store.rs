//! Reads and writes the files of the account.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::ErrorKind as Io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use build_image_plugin_api::{
    Error, Result,
    document::{Audience, Reference},
};
use serde::{Deserialize, Serialize};

/// Properties of an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Properties {
    pub(crate) name: String,
    /// Seconds since 1970-01-01 UTC.
    pub(crate) created: u64,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) audience: Audience,
    pub(crate) shared_with: Vec<String>,
    pub(crate) deprecated_at: Option<u64>,
    pub(crate) replacement: Option<Reference>,
    pub(crate) copied_from: Option<Reference>,
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

impl Properties {
    pub(crate) fn now() -> Self {
        Self { created: now(), audience: Audience::Private, ..Self::default() }
    }
}

/// The directory of the account.
pub(crate) struct Store(PathBuf);

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::io(format!("cannot use `{}`", path.display()), &error)
}

/// Turns the error of a file that does not exist into `None`.
fn absent<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == Io::NotFound => Ok(None),
        other => other.map(Some),
    }
}

impl Store {
    pub(crate) fn new(directory: &str) -> Self {
        Self(directory.into())
    }

    fn path(&self, region: &str, id: &str, suffix: &str) -> PathBuf {
        self.0.join(region).join(format!("{id}.{suffix}"))
    }

    pub(crate) fn create_data(&self, region: &str, id: &str) -> Result<File> {
        let path = self.path(region, id, "img");
        fs::create_dir_all(self.0.join(region)).map_err(failed(&path))?;
        File::create(&path).map_err(failed(&path))
    }

    pub(crate) fn open_data(&self, region: &str, id: &str) -> Result<File> {
        let path = self.path(region, id, "img");
        File::open(&path).map_err(failed(&path))
    }

    /// Returns the regions, in order.
    pub(crate) fn regions(&self) -> Result<Vec<String>> {
        names(&self.0)
    }

    /// Returns the ids of all data in a region, in order.
    pub(crate) fn ids(&self, region: &str) -> Result<Vec<String>> {
        let names = names(&self.0.join(region))?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".img")).map(str::to_owned).collect())
    }

    /// Returns the length of the data and its time of creation.
    pub(crate) fn data(&self, region: &str, id: &str) -> Result<Option<(u64, u64)>> {
        let path = self.path(region, id, "img");
        let found = absent(fs::metadata(&path)).map_err(failed(&path))?;
        let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |at| at.as_secs());
        Ok(found.map(|found| (found.len(), found.modified().map_or(0, since))))
    }

    pub(crate) fn read(&self, region: &str, id: &str) -> Result<Option<Properties>> {
        let path = self.path(region, id, "json");
        let Some(text) = absent(fs::read_to_string(&path)).map_err(failed(&path))? else {
            return Ok(None);
        };
        let malformed = |error: serde_json::Error| {
            Error::internal(format!("`{}` is malformed", path.display())).caused_by(&error)
        };
        serde_json::from_str(&text).map(Some).map_err(malformed)
    }

    pub(crate) fn write(&self, region: &str, id: &str, properties: &Properties) -> Result<()> {
        let path = self.path(region, id, "json");
        let text = serde_json::to_string(properties).unwrap_or_default();
        let part = path.with_extension("part");
        fs::write(&part, text).and_then(|()| fs::rename(&part, &path)).map_err(failed(&path))
    }

    pub(crate) fn has_name(&self, region: &str, name: &str) -> Result<bool> {
        for id in self.ids(region)? {
            if self.read(region, &id)?.is_some_and(|properties| properties.name == name) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes an image or an upload, or only its data. One that does not exist is not an error.
    pub(crate) fn remove(&self, region: &str, id: &str, only_data: bool) -> Result<()> {
        let suffixes = if only_data { &["img"][..] } else { &["json", "img"] };
        for suffix in suffixes {
            let path = self.path(region, id, suffix);
            absent(fs::remove_file(&path)).map_err(failed(&path))?;
        }
        Ok(())
    }
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let Some(entries) = absent(fs::read_dir(directory)).map_err(failed(directory))? else {
        return Ok(Vec::new());
    };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}
