//! Detects that a file was written, replaced, or removed after it was opened.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::error::{Error, Kind};

/// Seconds and nanoseconds since 1970.
type Time = (i64, i64);

/// The state of a file at one moment: its inode, its size, and the times of the last write and the last
/// change.
///
/// Two equal stamps mean that the file was neither written nor replaced in between, with the resolution of
/// the file system's clock (a few milliseconds). A program cannot set the change time, so resetting the
/// modification time does not hide a write. The stamp of a block device never changes: its times are those of
/// the node in `/dev`, not those of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileStamp {
    dev: u64,
    ino: u64,
    /// The length in bytes; 0 for a block device.
    len: u64,
    modified: Time,
    changed: Time,
}

impl From<&Metadata> for FileStamp {
    fn from(metadata: &Metadata) -> Self {
        if metadata.file_type().is_block_device() {
            return Self {
                dev: metadata.rdev(),
                ino: 0,
                len: 0,
                modified: (0, 0),
                changed: (0, 0),
            };
        }
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl FileStamp {
    /// Returns the stamp of an open file; errors name `path`.
    ///
    /// # Errors
    /// Fails when the file system does not answer.
    pub fn of(file: &File, path: &Path) -> Result<Self, Error> {
        let metadata = file.metadata();
        metadata
            .map(|metadata| Self::from(&metadata))
            .map_err(|source| Error::io("cannot look at", path, source))
    }

    /// Returns the stamp of the file at `path`; symbolic links are followed.
    ///
    /// # Errors
    /// Fails when the file does not exist or the file system does not answer.
    pub fn at(path: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(path);
        metadata
            .map(|metadata| Self::from(&metadata))
            .map_err(|source| Error::io("cannot look at", path, source))
    }

    /// Returns the device of the file.
    #[must_use]
    pub fn dev(&self) -> u64 {
        self.dev
    }

    /// Returns the inode number of the file on that device.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.ino
    }

    /// Returns the stamp as text, to be compared with the stamp of another process. The device number is not
    /// included, because it may change when the host is restarted.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { ino, len, modified, changed, .. } = self;
        format!("{ino} {len} {}.{:09} {}.{:09}", modified.0, modified.1, changed.0, changed.1)
    }

    /// Returns whether both stamps belong to the same inode, regardless of writes in between.
    #[must_use]
    pub fn same_file(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    /// Checks that `path` still refers to the same file, and that it was not written.
    ///
    /// # Errors
    /// [`Kind::Changed`] with the kind of change; [`Kind::Io`] when the file system does not answer.
    pub fn still(&self, path: &Path) -> Result<(), Error> {
        match fs::metadata(path) {
            Ok(metadata) => self.compare(&Self::from(&metadata), path),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                Err(changed(path, "it was removed or renamed".to_owned()))
            }
            Err(source) => Err(Error::io("cannot look at", path, source)),
        }
    }

    /// Checks that the open file was not written or removed; errors name `path`.
    ///
    /// # Errors
    /// See [`FileStamp::still`].
    pub fn still_of(&self, file: &File, path: &Path) -> Result<(), Error> {
        self.compare(&Self::of(file, path)?, path)
    }

    fn compare(&self, now: &Self, path: &Path) -> Result<(), Error> {
        let what = if self == now {
            return Ok(());
        } else if !self.same_file(now) {
            "another file has its name now".to_owned()
        } else if self.len != now.len {
            format!("it had {} bytes and has {} now", self.len, now.len)
        } else if self.modified != now.modified {
            "it was written".to_owned()
        } else {
            "its change time is another: it was written, renamed or given other attributes"
                .to_owned()
        };
        Err(changed(path, what))
    }
}

fn changed(path: &Path, what: String) -> Error {
    let message = format!("`{}` changed while it was read", path.display());
    Error::new(Kind::Changed, message)
        .caused_by(what)
        .with_hint("stop what writes to it, or copy it first; then run again")
}

/// Formats all fields in one line, as a part of a name or of the input of a digest.
impl fmt::Display for FileStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dev, ino, len, modified, changed } = self;
        write!(f, "{dev} {ino} {len} {}.{:09} ", modified.0, modified.1)?;
        write!(f, "{}.{:09}", changed.0, changed.1)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Waits until the clock of the file system has advanced, so that a change gets another time.
    fn tick(directory: &Path) {
        let probe = directory.join("clock");
        let now = || {
            fs::write(&probe, "x").unwrap();
            FileStamp::at(&probe).unwrap().modified
        };
        let first = now();
        while now() == first {
            std::thread::yield_now();
        }
        fs::remove_file(probe).unwrap();
    }

    /// Returns the result of the checks after a change to the file.
    fn after(change: impl FnOnce(&Path)) -> (Result<(), Error>, Result<(), Error>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.raw");
        fs::write(&path, [1; 1024]).unwrap();
        let file = File::open(&path).unwrap();
        let stamp = FileStamp::of(&file, &path).unwrap();
        assert_eq!(stamp, FileStamp::at(&path).unwrap());
        tick(directory.path());
        change(&path);
        (stamp.still(&path), stamp.still_of(&file, &path))
    }

    fn cause(result: Result<(), Error>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), Kind::Changed);
        assert!(error.to_string().contains("disk.raw` changed while it was read"), "{error}");
        assert!(error.hint().is_some());
        std::error::Error::source(&error).unwrap().to_string()
    }

    fn overwrite(path: &Path) {
        let mut file = File::options().write(true).open(path).unwrap();
        file.write_all(&[2; 512]).unwrap();
    }

    #[test]
    fn a_file_that_was_only_read_is_the_same() {
        let (path, file) = after(|path| drop(fs::read(path).unwrap()));
        path.unwrap();
        file.unwrap();
    }

    #[test]
    fn every_way_to_change_a_file_is_found() {
        let (path, file) = after(overwrite);
        assert_eq!((cause(path), cause(file)), ("it was written".into(), "it was written".into()));
        let (path, file) = after(|path| {
            File::options().write(true).open(path).unwrap().set_len(2048).unwrap();
        });
        let grown = "it had 1024 bytes and has 2048 now";
        assert_eq!((cause(path), cause(file)), (grown.into(), grown.into()));
        let (path, _) =
            after(|path| fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap());
        assert!(cause(path).contains("change time"));
    }

    #[test]
    fn a_modification_time_that_is_set_back_hides_nothing() {
        let (path, file) = after(|path| {
            let before = path.metadata().unwrap().modified().unwrap();
            overwrite(path);
            File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
        });
        assert!(cause(path).contains("change time") && cause(file).contains("change time"));
    }

    #[test]
    fn another_file_in_its_place_is_found_by_the_path() {
        let (path, _) = after(|path| {
            let beside = path.with_extension("new");
            fs::write(&beside, [1; 1024]).unwrap();
            fs::rename(beside, path).unwrap();
        });
        assert_eq!(cause(path), "another file has its name now");
        let (path, _) = after(|path| fs::remove_file(path).unwrap());
        assert_eq!(cause(path), "it was removed or renamed");
    }
}
