//! Writes files that appear complete or not at all, with this crate's errors.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;

use build_image_files::{AtomicFile, Identity, abandoned};

use crate::error::Error;

/// Removes unfinished files of killed processes from a directory: those whose names start with `prefix` and end in
/// `.part`. What is being written or cannot be removed stays.
pub fn remove_abandoned(directory: &Path, prefix: &str) {
    abandoned::remove(directory, OsStr::new(prefix));
}

/// A file under construction; removed when dropped before [`Staged::finish`].
#[derive(Debug)]
pub(crate) struct Staged(AtomicFile);

impl Staged {
    /// Creates the file beside `dest`, so that the rename stays in one file system.
    pub(crate) fn create(dest: &Path) -> Result<Self, Error> {
        AtomicFile::create(dest).map(Self).map_err(|error| Error::io("cannot create", dest, error))
    }

    pub(crate) fn file(&self) -> &File {
        self.0.file()
    }

    /// Which file it is, whatever its name.
    pub(crate) fn identity(&self) -> Identity {
        self.0.identity()
    }

    /// An error of writing, with the name the user knows.
    pub(crate) fn write_error(&self, source: io::Error) -> Error {
        Error::io("cannot write", self.0.target(), source)
    }

    /// Gives the file its name, replacing what was there; a power cut may lose it.
    pub(crate) fn finish_unsynced(self) -> Result<(), Error> {
        let dest = self.0.target().to_owned();
        self.0.commit_unsynced().map_err(|error| Error::io("cannot write", &dest, error))
    }

    /// Syncs the file and gives it its name, replacing what was there.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let dest = self.0.target().to_owned();
        self.0.commit().map_err(|error| Error::io("cannot write", &dest, error))
    }
}
