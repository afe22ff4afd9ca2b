//! Keeps the publishers that the user trusts: the key of each, and the newest index of it that was used. An older index
//! is refused, so that whoever serves it cannot bring back a package with a known fault.

use std::{
    fs::TryLockError,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{document, refused};
use crate::{
    artifacts::make_private,
    clock,
    error::{Error, Result, Stage},
    settings::Environment,
    signature::MinisignKey,
};
use build_image_files::lock::LockFile;

/// File of the publishers, in the user's data directory.
const FILE: &str = "build-image/publishers.json";
/// Version of the file's form.
const VERSION: u32 = 1;
/// Time for which the file's lock is tried.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// A publisher that the user trusts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Publisher {
    pub(super) name: String,
    /// Its public key, as minisign writes it, without the comment.
    pub(super) key: String,
    /// When the user trusted the key, UTC.
    pub(super) trusted: String,
    /// Number of the newest index that was used.
    pub(super) serial: u64,
    /// SHA-256 of that index.
    pub(super) index_sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    publishers: Vec<Publisher>,
}

/// The file of the publishers.
pub(crate) struct Publishers {
    path: PathBuf,
}

impl Publishers {
    /// The file of this user.
    ///
    /// # Errors
    /// When the user has no data directory.
    pub(crate) fn of(environment: &Environment) -> Result<Self> {
        let directory = crate::plugins::data_directory(environment).ok_or_else(|| {
            Error::new(Stage::Settings, "no place is known for the keys of publishers")
                .hint("set HOME or XDG_DATA_HOME")
        })?;
        Ok(Self { path: directory.join(FILE) })
    }

    /// Returns the publisher of this name; `None` when the user does not know it yet.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn find(&self, name: &str) -> Result<Option<Publisher>> {
        Ok(self.read()?.into_iter().find(|publisher| publisher.name == name))
    }

    fn read(&self) -> Result<Vec<Publisher>> {
        let Some(document) = document::read::<Document>(&self.path)? else { return Ok(Vec::new()) };
        if document.version != VERSION {
            let (path, has) = (self.path.display(), document.version);
            return Err(refused(format!(
                "`{path}` has version {has}, this build-image reads {VERSION}"
            ))
            .hint("use a newer build-image"));
        }
        Ok(document.publishers)
    }

    /// Records the key of a publisher and the index that is used now.
    ///
    /// # Errors
    /// When a newer index was used meanwhile, another key was pinned meanwhile, or the file cannot be written.
    pub(super) fn keep(&self, new: &Publisher, known: Option<&Publisher>) -> Result<()> {
        if known == Some(new) {
            return Ok(());
        }
        let _lock = self.lock()?;
        let mut all = self.read()?;
        match all.iter_mut().find(|one| one.name == new.name) {
            Some(one) => {
                let is_known = known.is_some_and(|known| known.key == one.key);
                if !is_known && one.key != new.key {
                    let text = format!("the key of publisher `{}` was changed meanwhile", new.name);
                    return Err(refused(text).hint("repeat the command"));
                }
                check_floor(one, new)?;
                *one = new.clone();
            }
            None => all.push(new.clone()),
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        document::write(&self.path, &Document { version: VERSION, publishers: all })
    }

    fn lock(&self) -> Result<LockFile> {
        let path = self.path.with_extension("lock");
        let cannot_lock = |error: &std::io::Error| {
            Error::new(Stage::Disk, format!("cannot lock `{}`", self.path.display()))
                .caused_by(error)
        };
        path.parent().map_or(Ok(()), make_private).map_err(|error| cannot_lock(&error))?;
        LockFile::take(&path, LOCK_TIMEOUT).map_err(|error| match error {
            TryLockError::WouldBlock => in_use(&self.path),
            TryLockError::Error(error) => cannot_lock(&error),
        })
    }
}

/// Returns the error for a file or directory that another process changes.
pub(super) fn in_use(path: &Path) -> Error {
    let text = format!("another build-image changes `{}`", path.display());
    Error::new(Stage::InUse, text).hint("repeat the command when it is done")
}

impl Publisher {
    /// A publisher whose index of this number and digest is used.
    pub(super) fn new(
        name: &str,
        key: &MinisignKey,
        known: Option<&Self>,
        (serial, index_sha256): (u64, String),
    ) -> Self {
        let key = key.line();
        let trusted = known.filter(|known| known.key == key).map(|known| known.trusted.clone());
        let trusted = trusted.unwrap_or_else(clock::now);
        Self { name: name.to_owned(), key, trusted, serial, index_sha256 }
    }
}

/// Checks that an index is not older than the newest one that was used, nor another one of the same number.
///
/// # Errors
/// When it is.
pub(super) fn check_floor(floor: &Publisher, new: &Publisher) -> Result<()> {
    let name = &new.name;
    if new.serial < floor.serial {
        return Err(refused(format!(
            "the index of publisher `{name}` has number {}, but number {} was used before",
            new.serial, floor.serial
        ))
        .hint("use the publisher's newest index; a mirror that is older must be copied again"));
    }
    if new.serial == floor.serial && new.index_sha256 != floor.index_sha256 {
        return Err(refused(format!(
            "the index of publisher `{name}` has number {}, but is not the index of that number that was used before",
            new.serial
        ))
        .hint("ask the publisher: every index needs another number"));
    }
    Ok(())
}
