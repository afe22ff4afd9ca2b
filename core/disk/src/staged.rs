//! Writes files that appear complete or not at all, with the errors of this crate.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;

use build_image_files::{AtomicFile, Identity, abandoned};

use crate::error::Error;

/// Removes unfinished files of killed processes from a directory: those whose names start with `prefix` and
/// end in `.part`. Files that are being written or that cannot be removed are kept.
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

    /// Creates the file under its final name, which must not exist; it is locked while it is written.
    pub(crate) fn create_new(dest: &Path) -> Result<Self, Error> {
        let created = AtomicFile::create_at(dest, dest);
        created.map(Self).map_err(|error| Error::io("cannot create", dest, error))
    }

    pub(crate) fn file(&self) -> &File {
        self.0.file()
    }

    /// Returns the identity of the file, independent of its name.
    pub(crate) fn identity(&self) -> Identity {
        self.0.identity()
    }

    /// Creates an error for a failed write, with the name that the user knows.
    pub(crate) fn write_error(&self, source: io::Error) -> Error {
        Error::io("cannot write", self.0.target(), source)
    }

    /// Gives the file its final name and replaces an existing file; it may be lost in a power cut.
    pub(crate) fn finish_unsynced(self) -> Result<(), Error> {
        let dest = self.0.target().to_owned();
        self.0.commit_unsynced().map_err(|error| Error::io("cannot write", &dest, error))
    }

    /// Syncs the file, gives it its final name, and replaces an existing file.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let dest = self.0.target().to_owned();
        self.0.commit().map_err(|error| Error::io("cannot write", &dest, error))
    }
}
