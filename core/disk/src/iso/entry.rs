//! What a directory of an ISO holds.

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Folder,
    /// A symbolic link and where it points, as it is written.
    Symlink(String),
    /// A device, pipe or socket.
    Other,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name without any path.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes, all extents together.
    pub size: u64,
    /// Permission bits, when Rock Ridge tells them.
    pub mode: Option<u32>,
    /// Where the bytes lie in the image: (offset, length).
    pub(super) extents: Vec<(u64, u64)>,
}
