//! An image file opened for reading, with its length fixed at the time of opening.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind};
use crate::field;

/// One open file; every format reads through it, so every error names path and offset.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
}

impl Image {
    /// Opens a regular file or block device.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let open = |source| Error::io("cannot open", path, source);
        // Looked at before opening: opening a named pipe would wait for its other end.
        let kind = fs::metadata(path).map_err(open)?.file_type();
        if !(kind.is_file() || kind.is_block_device()) {
            return Err(
                Error::new(Kind::Unsupported, "a disk image must be a file, unlike").at(path)
            );
        }
        Self::of(File::open(path).map_err(open)?, path)
    }

    /// A file that is open already; `path` is what errors call it.
    pub(crate) fn of(mut file: File, path: &Path) -> Result<Self, Error> {
        let end = file.seek(SeekFrom::End(0));
        let len = end.map_err(|source| Error::io("cannot open", path, source))?;
        Ok(Self { file, path: path.to_owned(), len })
    }

    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> Result<(), Error> {
        field::read_exact_at(&self.file, &self.path, buf, offset)
    }

    /// The first bytes, at most `N`; zeros where the file is shorter.
    pub(crate) fn head<const N: usize>(&self, offset: u64) -> Result<[u8; N], Error> {
        let mut buf = [0; N];
        let there = self.len.saturating_sub(offset).min(N as u64);
        self.read(&mut buf[..field::index(there)], offset)?;
        Ok(buf)
    }

    /// Whether `len` bytes at `offset` lie inside the file.
    pub(crate) fn holds(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
    }

    pub(crate) fn malformed(&self, message: &str) -> Error {
        Error::new(Kind::Malformed, format!("{message} in")).at(&self.path)
    }

    pub(crate) fn unsupported(&self, message: &str) -> Error {
        Error::new(Kind::Unsupported, format!("{message} in")).at(&self.path)
    }

    /// A reference which leads out of the file.
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
