//! Finds the disk image inside compressed files and archives. A member that an archive stores as it is is read in
//! place; everything else is unpacked once, as a stream through all layers, to a private file without a name.
//!
//! ```text
//! wrapping.rs  names the outermost layer by its first bytes
//! choice.rs    which member of an archive is the disk
//! find.rs      opens a file, an archive by its table of contents
//! piped.rs     a stream that is read once
//! pour.rs      layers of a stream: what is inside what, until a disk is written
//! stream.rs    members, frames, and streams of one compressed layer, to its last byte (xz.rs, zstd.rs)
//! tap.rs       the packed bytes as they are read: passed to the caller, who may stop the work
//! unpack.rs    the file without a name that is written to; zeros become holes
//! ```
//!
//! Sources: RFC 1952 (gzip), RFC 8878 (zstd), "The .xz File Format" 1.2.1, "LZ4 Frame Format" 1.6.4, POSIX.1-2017 pax
//! (tar), APPNOTE 6.3.10 (zip). Memory is bounded by the largest window that is accepted, independent of the window
//! that the file declares. Names in an archive are never used as paths.

mod choice;
mod find;
mod piped;
mod pour;
mod stream;
mod tap;
mod unpack;
mod wrapping;
mod xz;
mod zstd;

pub use choice::suffixes;
pub use find::{Content, Found, find};
pub use piped::{Piped, read_stream};
pub use tap::Seen;
pub(crate) use wrapping::HEAD;
pub use wrapping::{Wrapping, wrapping};

#[cfg(test)]
mod archive_tests;
#[cfg(test)]
mod tests;
