//! A file which appears complete or not at all: written beside its place, synced, then renamed. It is locked
//! while it is written; what is left of killed processes is known by having no lock.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::error::Error;

/// What the names of unfinished files end with.
const SUFFIX: &str = ".part";

/// Removes unfinished files from a folder that no process works at any more: those whose names start with
/// `prefix` and end in `.part`. What cannot be removed stays.
pub fn remove_abandoned(folder: &Path, prefix: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let meant = name.starts_with(prefix) && name.ends_with(SUFFIX);
        let is_file = || entry.file_type().is_ok_and(|kind| kind.is_file());
        if meant && is_file() && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok())
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A file under construction; removed when dropped before [`Staged::finish`].
#[derive(Debug)]
pub(crate) struct Staged {
    temp: NamedTempFile,
    folder: PathBuf,
    dest: PathBuf,
}

impl Staged {
    /// Creates `.<name>.<random>.part` in the folder of `dest`, so that the rename stays in one file system.
    /// Those that killed processes left there for the same `dest` are removed.
    pub(crate) fn create(dest: &Path) -> Result<Self, Error> {
        let folder = match dest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(dest.file_name().unwrap_or_default());
        prefix.push(".");
        remove_abandoned(&folder, &prefix.to_string_lossy());
        let failed = |source| Error::io("cannot create", dest, source);
        loop {
            let temp = Builder::new()
                .prefix(&prefix)
                .suffix(SUFFIX)
                .permissions(Permissions::from_mode(0o666))
                .tempfile_in(&folder)
                .map_err(failed)?;
            // Where there are no locks, nobody takes it for abandoned either.
            let _ = temp.as_file().try_lock();
            // Somebody may have taken it for abandoned before it was locked.
            if temp.as_file().metadata().map_err(failed)?.nlink() > 0 {
                return Ok(Self { temp, folder, dest: dest.to_owned() });
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_processes_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let dest = folder.path().join("disk.img");
        let busy = Staged::create(&dest).unwrap();
        for name in [".disk.img.a1.part", ".other.img.a1.part", "disk.img.part", "disk.img"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        drop(Staged::create(&dest).unwrap());
        assert!(!folder.path().join(".disk.img.a1.part").exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
        busy.finish().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
