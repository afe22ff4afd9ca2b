//! Reads installer ISOs: ISO 9660 with Rock Ridge names, and the Joliet tree beside it.
//! Sources: ECMA-119; SUSP and RRIP 1.12 (IEEE P1281, P1282); the Joliet specification (1995).
//!
//! ```text
//! volume.rs    descriptors → the roots of the two trees      record.rs   records of one directory
//! rockridge.rs real names, links, modes in those records     entry.rs    directory entries
//! reader.rs    Iso: list, find, read                         content.rs  a file's bytes as a stream
//! ```
//!
//! The image is not trusted: the sizes of tables and the number of followed links are limited, names that
//! would leave a directory are refused, and everything must be inside the file. Walking the whole tree is not
//! supported on purpose: a hostile tree may contain itself.

mod content;
mod entry;
mod reader;
mod record;
mod rockridge;
mod volume;

pub use content::Content;
pub use entry::{Entry, EntryKind};
pub use reader::Iso;

#[cfg(test)]
mod tests;
