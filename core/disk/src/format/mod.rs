//! Disk formats: which one a file has ([`probe`]), and what the guest would see in it ([`GuestReader`]).
//!
//! ```text
//! name.rs    Format, the names            probe.rs   the only match on a format's magic
//! image.rs   an open file with its length  reader.rs  guest content of any format
//! qcow2/     header · tables (every reference inside the file) · guest
//! vhd/       footer and dynamic header · guest
//! raw.rs     partition tables and foreign formats in a raw file
//! ```
//!
//! Not here: writing. Images are written through [`crate::view`].

mod export;
mod image;
mod name;
mod probe;
mod qcow2;
mod raw;
mod reader;
mod vhd;

pub use export::export_raw;
pub(crate) use export::write_data;
pub(crate) use image::Image;
pub use name::Format;
pub use probe::{Compression, Probe, probe};
pub use raw::{PartitionTable, partition_table};
pub use reader::{Extent, GuestReader};

#[cfg(test)]
mod tests;
