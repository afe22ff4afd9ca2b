//! Stores body files. An object is a list of segments of body files, so that completing a multipart upload
//! moves no bytes. Parts of equal size share one file per upload (part N at (N-1) × size): then the finished
//! object is that one file, and an import opens it in place.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::table::StateError;

/// A run of bytes within one body file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    /// Name of the body file.
    pub(crate) blob: String,
    /// First byte within it.
    pub(crate) offset: u64,
    /// Number of bytes.
    pub(crate) length: u64,
}

/// Joins adjacent segments of the same file; drops empty ones.
pub(crate) fn merge(segments: impl IntoIterator<Item = Segment>) -> Vec<Segment> {
    let mut merged: Vec<Segment> = Vec::new();
    for segment in segments.into_iter().filter(|segment| segment.length > 0) {
        match merged.last_mut() {
            Some(last)
                if last.blob == segment.blob && last.offset + last.length == segment.offset =>
            {
                last.length += segment.length;
            }
            _ => merged.push(segment),
        }
    }
    merged
}

/// The directory of body files.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    directory: PathBuf,
}

impl Blobs {
    /// Opens the directory below `root`; creates it when missing.
    pub(crate) fn open(root: &Path) -> Result<Self, StateError> {
        let directory = root.join("bodies");
        fs::create_dir_all(&directory).map_err(StateError::io("make directory", &directory))?;
        Ok(Self { directory })
    }

    /// The path of a body file.
    pub(crate) fn path(&self, blob: &str) -> PathBuf {
        self.directory.join(blob)
    }

    /// Opens a body file for writing at any offset; creates it when missing.
    pub(crate) fn writer(&self, blob: &str) -> Result<File, StateError> {
        let path = self.path(blob);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StateError::io("open", &path))
    }

    /// Opens a body file for reading.
    pub(crate) fn reader(&self, blob: &str) -> Result<File, StateError> {
        let path = self.path(blob);
        File::open(&path).map_err(StateError::io("open", &path))
    }

    /// Removes a body file; a missing one is not an error.
    pub(crate) fn remove(&self, blob: &str) -> Result<(), StateError> {
        let path = self.path(blob);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(StateError::Io { doing: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    /// Names of all body files.
    pub(crate) fn names(&self) -> Result<Vec<String>, StateError> {
        let list_error = || StateError::io("list", &self.directory);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(list_error())? {
            names.push(entry.map_err(list_error())?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    /// Length of a body file in bytes.
    pub(crate) fn length(&self, blob: &str) -> Result<u64, StateError> {
        let path = self.path(blob);
        Ok(fs::metadata(&path).map_err(StateError::io("look at", &path))?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::{Segment, merge};

    fn segment(blob: &str, offset: u64, length: u64) -> Segment {
        Segment { blob: blob.to_owned(), offset, length }
    }

    #[test]
    fn neighbours_become_one_segment() {
        let merged = merge([
            segment("a", 0, 10),
            segment("a", 10, 10),
            segment("b", 0, 0),
            segment("b", 0, 5),
            segment("a", 30, 1),
        ]);
        assert_eq!(merged, [segment("a", 0, 20), segment("b", 0, 5), segment("a", 30, 1)]);
    }
}
