//! Reads disk formats: detects the format of a file ([`probe`]) and reads the guest content in it
//! ([`GuestReader`]).
//!
//! ```text
//! name.rs     Format, the names             probe.rs   the table of formats, detection
//! image.rs    an open file with its length  reader.rs  guest content of any format
//! lock.rs     qemu's locks on images
//! content.rs  what every format offers      recent.rs, unpack.rs  caching, decompression
//! qcow2/      header · tables (every reference inside the file) · guest
//! vhd/        footer and dynamic header · guest
//! vhdx/       headers, regions, metadata · guest
//! vmdk/       sparse header · descriptor · grain tables · guest
//! vdi.rs      header, block map, guest
//! raw.rs      partition tables and foreign formats in a raw file
//! ```
//!
//! Writing is not part of this module; images are written through [`crate::view`].

mod content;
mod export;
mod image;
mod lock;
mod name;
mod probe;
mod qcow2;
mod raw;
mod reader;
mod recent;
mod unpack;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

pub use export::export_raw;
pub(crate) use export::{write_data, write_runs};
pub(crate) use image::Image;
pub use lock::LockedFile;
pub use name::Format;
pub use probe::{Compression, Probe, probe};
pub use raw::{PartitionTable, partition_table};
pub use reader::{Extent, GuestReader};

#[cfg(test)]
mod tests;
