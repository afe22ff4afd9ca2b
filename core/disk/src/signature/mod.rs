//! Names what bytes hold by their signature: one table for file systems and other content of volumes
//! ([`recognise`]), one for files that are not disks or not raw ones ([`foreign`]).
//!
//! Source: libblkid (util-linux) for the offsets of content, `file` (magic) and the formats' own specifications for
//! the others. UUIDs and labels are written as `blkid` prints them.

mod content;
mod foreign;

pub use content::{Content, recognise};
pub use foreign::{Foreign, foreign};
