//! Presents a disk as an image in some format, whose bytes are computed while they are read.
//!
//! ```text
//! raw disk ──▶ allocation.rs  which 64 KiB clusters hold data (one parallel pass, one bit each)
//!          ──▶ contract.rs    View: format, virtual size, length, read_at
//!                raw.rs       the disk as it is            qcow2.rs   computed header and tables, copied data
//!                vhd.rs       fixed and dynamic VHD        vhd_header.rs   its footer and header
//!                file.rs      an image that was written before
//!          ──▶ materialise.rs a view as a file, complete or not at all
//! stamp.rs   identifiers and time of an image, which must not change from run to run
//! ```
//!
//! Compressed images are not part of this module: they must be written before their length is known
//! ([`crate::pack`]).

mod allocation;
mod contract;
mod file;
mod layout;
mod materialise;
mod qcow2;
mod raw;
mod stamp;
mod vhd;
mod vhd_header;

pub(crate) use allocation::{Allocation, CLUSTER};
pub use contract::View;
pub use file::FileView;
pub(crate) use layout::{L2_ENTRIES, Layout};
pub use materialise::{OnProgress, copy_to, materialise, materialise_new};
pub(crate) use qcow2::{COPIED, Header as Qcow2Header, refuse_half_sectors};
pub use qcow2::{Qcow2Version, Qcow2View};
pub use raw::RawView;
pub use stamp::Stamp;
pub use vhd::{VhdKind, VhdView};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vhd_tests;
