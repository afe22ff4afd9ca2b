//! Stores one kind of document: rows in memory, one JSON file per row on disk. A file is written beside its
//! place and renamed into it, so a reader finds the old or the new row, never a torn one. Deliberately no
//! fsync: the state must survive a crash of the emulator, not of the machine.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::ids;

/// State that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system refused.
    #[error("cannot {doing} `{}`", path.display())]
    Io {
        /// The attempted operation.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A document differs from the format of this version.
    #[error("`{}` is no document of this emulator; move the state directory away", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// Another emulator uses the directory.
    #[error("`{}` is in use by another emulator; stop it or choose another directory", path.display())]
    Busy {
        /// The state directory.
        path: PathBuf,
    },
}

impl StateError {
    /// Adds the attempted operation and the path to an error of the file system.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source }
    }
}

/// A row of a table.
pub(crate) trait Document: Serialize + DeserializeOwned {
    /// Directory of the table.
    const KIND: &'static str;
    /// The key that identifies this row.
    fn key(&self) -> String;
}

/// All rows of one kind, ordered by key.
#[derive(Debug)]
pub(crate) struct Table<T> {
    directory: PathBuf,
    rows: BTreeMap<String, T>,
}

fn file_name(key: &str) -> String {
    let plain = key.len() <= 100 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if plain { format!("{key}.json") } else { format!("_{}.json", ids::hex(&Sha256::digest(key))) }
}

impl<T: Document> Table<T> {
    /// Reads the table below `root`; creates its directory when missing.
    pub(crate) fn load(root: &Path) -> Result<Self, StateError> {
        let directory = root.join(T::KIND);
        fs::create_dir_all(&directory).map_err(StateError::io("make directory", &directory))?;
        let mut rows = BTreeMap::new();
        let listing = fs::read_dir(&directory).map_err(StateError::io("list", &directory))?;
        for entry in listing {
            let path = entry.map_err(StateError::io("list", &directory))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let text = match fs::read(&path) {
                    Ok(text) => text,
                    // Removed by the server since the listing.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(source) => return Err(StateError::Io { doing: "read", path, source }),
                };
                let row: T = serde_json::from_slice(&text)
                    .map_err(|source| StateError::Damaged { path, source })?;
                rows.insert(row.key(), row);
            }
        }
        Ok(Self { directory, rows })
    }

    /// The row with this key.
    pub(crate) fn get(&self, key: &str) -> Option<&T> {
        self.rows.get(key)
    }

    /// All rows in the order of their keys.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.rows.values()
    }

    /// Rows whose key starts with `prefix`, in order.
    pub(crate) fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = &T> + use<'_, T> {
        let prefix = prefix.to_owned();
        self.rows
            .range(prefix.clone()..)
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .map(|(_, row)| row)
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Writes the row to disk, then into memory; returns the row it replaces.
    pub(crate) fn put(&mut self, row: T) -> Result<Option<T>, StateError> {
        let key = row.key();
        let path = self.directory.join(file_name(&key));
        let text = serde_json::to_vec(&row)
            .map_err(|source| StateError::Damaged { path: path.clone(), source })?;
        let beside = path.with_extension("new");
        fs::write(&beside, text).map_err(StateError::io("write", &beside))?;
        fs::rename(&beside, &path).map_err(StateError::io("replace", &path))?;
        Ok(self.rows.insert(key, row))
    }

    /// Removes the row from disk and memory.
    pub(crate) fn remove(&mut self, key: &str) -> Result<Option<T>, StateError> {
        let path = self.directory.join(file_name(key));
        if self.rows.contains_key(key) {
            fs::remove_file(&path).map_err(StateError::io("remove", &path))?;
        }
        Ok(self.rows.remove(key))
    }
}
