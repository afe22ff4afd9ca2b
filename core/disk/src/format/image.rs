//! Opens image files for reading and keeps the length that they have at that time.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind};
use crate::field;
use crate::stamp::FileStamp;

/// An open image file. Every format reads through it, so every error names the path and the offset.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// Where the image begins in the file: not at its start for a member of an archive.
    base: u64,
    pub(crate) len: u64,
    /// The stamp of the file when it was opened. For a file without a name, the stamp of the file it was made
    /// from.
    pub(crate) stamp: FileStamp,
    /// Whether the file has a name, so that other processes can write to it.
    named: bool,
    /// Whether other files may belong to it, which are searched for beside `path`.
    pub(super) has_directory: bool,
    /// Whether this file, and the files that belong to it, are locked against writers.
    pub(super) locked: bool,
}

impl Image {
    /// Opens a regular file or block device.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let open_error = |source| Error::io("cannot open", path, source);
        // The type is checked before opening: opening a named pipe would block until its other end is opened.
        let kind = fs::metadata(path).map_err(open_error)?.file_type();
        if !(kind.is_file() || kind.is_block_device()) {
            return Err(
                Error::new(Kind::Unsupported, "a disk image must be a file, unlike").at(path)
            );
        }
        let file = File::open(path).map_err(open_error)?;
        let stamp = FileStamp::of(&file, path)?;
        Self::of(file, path, stamp, true)
    }

    /// Opens a file and locks it against writers.
    pub(crate) fn open_locked(path: &Path) -> Result<Self, Error> {
        let mut image = Self::open(path)?;
        image.locked = true;
        image.lock()?;
        Ok(image)
    }

    /// Opens a file that belongs to this image, with the same locking.
    pub(crate) fn open_other(&self, path: &Path) -> Result<Self, Error> {
        if self.locked { Self::open_locked(path) } else { Self::open(path) }
    }

    /// Wraps a file without a name that was made from the file at `path` when that had this stamp.
    pub(crate) fn nameless(file: File, path: &Path, stamp: FileStamp) -> Result<Self, Error> {
        Self::of(file, path, stamp, false)
    }

    /// Wraps a file without a name that was made from a stream; errors call the stream `path`. No other file belongs
    /// to it: what is beside `path` was not meant by the author of the stream.
    pub(crate) fn piped(file: File, path: &Path) -> Result<Self, Error> {
        let stamp = FileStamp::of(&file, path)?;
        let mut image = Self::nameless(file, path, stamp)?;
        image.has_directory = false;
        Ok(image)
    }

    fn of(mut file: File, path: &Path, stamp: FileStamp, named: bool) -> Result<Self, Error> {
        let end = file.seek(SeekFrom::End(0));
        let len = end.map_err(|source| Error::io("cannot open", path, source))?;
        let path = path.to_owned();
        Ok(Self { file, path, base: 0, len, stamp, named, has_directory: true, locked: false })
    }

    /// Narrows the image to `len` bytes from offset `base` of the file: a member of an archive.
    pub(crate) fn narrowed(mut self, base: u64, len: u64) -> Result<Self, Error> {
        if !self.holds(base, len) {
            return Err(self.truncated("the archive", base.saturating_add(len)));
        }
        (self.base, self.len) = (self.base + base, len);
        Ok(self)
    }

    /// Returns the place of an offset of the image in the file.
    pub(crate) fn place(&self, offset: u64) -> u64 {
        self.base.saturating_add(offset)
    }

    /// Checks that the open file is unchanged, and that its path still refers to it.
    pub(crate) fn check_unchanged(&self) -> Result<(), Error> {
        if self.named {
            // The path is checked first: its error is clearer than the effect that removing the name has on
            // the open file.
            self.stamp.still(&self.path)?;
            self.stamp.still_of(&self.file, &self.path)?;
        }
        Ok(())
    }

    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> Result<(), Error> {
        field::read_exact_at(&self.file, &self.path, buf, self.place(offset))
    }

    /// Reads the first bytes, at most `N`; the rest is zeros if the file is shorter.
    pub(crate) fn head<const N: usize>(&self, offset: u64) -> Result<[u8; N], Error> {
        let mut buf = [0; N];
        let there = self.len.saturating_sub(offset).min(N as u64);
        self.read(&mut buf[..field::index(there)], offset)?;
        Ok(buf)
    }

    /// Reads at most `most` bytes at an offset, fewer at the end of the file.
    pub(crate) fn part(&self, offset: u64, most: usize) -> Result<Vec<u8>, Error> {
        let there = self.len.saturating_sub(offset).min(most as u64);
        let mut bytes = vec![0; field::index(there)];
        self.read(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Returns whether `len` bytes at `offset` are inside the file.
    pub(crate) fn holds(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
    }

    pub(crate) fn malformed(&self, message: &str) -> Error {
        Error::new(Kind::Malformed, format!("{message} in"))
            .at(&self.path)
            .with_hint("the file is damaged: fetch or create it again")
    }

    pub(crate) fn unsupported(&self, message: &str) -> Error {
        Error::new(Kind::Unsupported, format!("{message} in")).at(&self.path)
    }

    /// Creates the error for a reference that points outside the file.
    pub(crate) fn truncated(&self, what: &str, target: u64) -> Error {
        let message = format!(
            "{what} points to byte {target}, beyond the {} bytes that are there, in",
            self.len
        );
        Error::new(Kind::Truncated, message)
            .at(&self.path)
            .with_hint("the file is incomplete: fetch or create it again")
    }
}
