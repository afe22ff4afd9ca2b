//! Defines the entries of a directory of an ISO.

/// The type of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Folder,
    /// A symbolic link and its target, as it is stored.
    Symlink(String),
    /// A device, pipe, or socket.
    Other,
}

/// A directory entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, without directories.
    pub name: String,
    /// The type.
    pub kind: EntryKind,
    /// The size in bytes, all extents together.
    pub size: u64,
    /// Permission bits, if Rock Ridge records them.
    pub mode: Option<u32>,
    /// The extents in the image: (offset, length).
    pub(super) extents: Vec<(u64, u64)>,
}
