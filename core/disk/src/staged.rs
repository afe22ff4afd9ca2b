//! A file which appears complete or not at all: written beside its place, synced, then renamed.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::error::Error;

/// A file under construction; removed when dropped before [`Staged::finish`].
#[derive(Debug)]
pub(crate) struct Staged {
    temp: NamedTempFile,
    folder: PathBuf,
    dest: PathBuf,
}

impl Staged {
    /// Creates `.<name>.<random>.part` in the folder of `dest`, so that the rename stays in one file system.
    pub(crate) fn create(dest: &Path) -> Result<Self, Error> {
        let folder = match dest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(dest.file_name().unwrap_or_default());
        prefix.push(".");
        let temp = Builder::new()
            .prefix(&prefix)
            .suffix(".part")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(&folder)
            .map_err(|source| Error::io("cannot create", dest, source))?;
        Ok(Self { temp, folder, dest: dest.to_owned() })
    }

    pub(crate) fn file(&self) -> &File {
        self.temp.as_file()
    }

    /// An error of writing, told with the name the user knows.
    pub(crate) fn write_error(&self, source: io::Error) -> Error {
        Error::io("cannot write", &self.dest, source)
    }

    /// Gives the file its name, replacing what was there; nobody needs it after a power cut.
    pub(crate) fn finish_unsynced(self) -> Result<(), Error> {
        let Self { temp, dest, .. } = self;
        temp.persist(&dest).map_err(|e| Error::io("cannot write", &dest, e.error))?;
        Ok(())
    }

    /// Syncs the file and gives it its name, replacing what was there.
    pub(crate) fn finish(self) -> Result<(), Error> {
        self.file().sync_all().map_err(|source| self.write_error(source))?;
        let (folder, dest) = (self.folder.clone(), self.dest.clone());
        self.finish_unsynced()?;
        // The rename itself survives a power cut only once the folder is synced.
        File::open(&folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| Error::io("cannot sync the folder of", &dest, source))
    }
}
