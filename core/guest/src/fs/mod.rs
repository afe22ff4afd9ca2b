//! Reads files of a file system, whatever its kind.
//!
//! ```text
//! ext.rs   ext2, ext3, and ext4, through the crate ext4-view
//! fat.rs   FAT 12, 16, and 32 with long names;  fat_name.rs  decodes the names
//! ```

mod ext;
mod fat;
mod fat_name;
#[cfg(test)]
mod tests;

use std::io::Read;

use crate::source::Fault;
use crate::volume::{Content, Volume};

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    /// A symbolic link.
    Link,
    /// A device, a pipe, or a socket.
    Other,
}

/// A directory entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Bytes that are not UTF-8 are replaced.
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// An open file.
pub(crate) struct Opened {
    /// Length in bytes, as the file system records it.
    pub(crate) len: u64,
    pub(crate) reader: Box<dyn Read>,
}

/// Maximum number of entries of a directory that are read.
pub(crate) const MAX_ENTRIES: usize = 20_000;

/// A file system. Paths are absolute; symbolic links are followed inside of the file system.
pub(crate) trait FileSystem {
    /// Opens a regular file.
    fn open(&self, path: &str) -> Result<Opened, Fault>;

    /// Returns what is at a path.
    fn kind(&self, path: &str) -> Result<Kind, Fault>;

    /// Returns at most [`MAX_ENTRIES`] entries of a directory, in no order, without `.` and `..`.
    fn list(&self, path: &str) -> Result<Vec<Entry>, Fault>;
}

/// Opens the file system of a volume; `None` for a kind that is not read.
pub(crate) fn open(
    volume: &Volume,
    content: &Content,
) -> Option<Result<Box<dyn FileSystem>, Fault>> {
    match content.kind {
        "ext4" => {
            Some(ext::Ext::open(volume).map(|opened| Box::new(opened) as Box<dyn FileSystem>))
        }
        "vfat" => {
            Some(fat::Fat::open(volume).map(|opened| Box::new(opened) as Box<dyn FileSystem>))
        }
        _ => None,
    }
}
