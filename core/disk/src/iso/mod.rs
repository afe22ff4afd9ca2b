//! Reading installer ISOs: ISO 9660 with Rock Ridge names, and the Joliet tree beside it.
//! Sources: ECMA-119; SUSP and RRIP 1.12 (IEEE P1281, P1282); the Joliet specification (1995).
//!
//! ```text
//! volume.rs    descriptors → the roots of the two trees      record.rs   one directory's records
//! rockridge.rs real names, links, modes in those records     entry.rs    what a directory holds
//! reader.rs    Iso: list, find, read                         content.rs  a file's bytes as a stream
//! ```
//!
//! The image is not trusted: tables have sizes one can afford, links are followed only so often, names
//! which would leave a directory are refused, and everything must lie inside the file. A walk over the
//! whole tree is left out on purpose: a hostile tree may contain itself.

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
