//! A disk is a view, not a file: the bytes of an image in some format, computed while they are read.
//!
//! ```text
//! raw disk ──▶ allocation.rs  which 64 KiB clusters hold data (one parallel pass, one bit each)
//!          ──▶ contract.rs    View: format, virtual size, length, read_at
//!                raw.rs       the disk as it is            qcow2.rs   header and tables made up, data passed on
//!          ──▶ materialise.rs a view as a file, complete or not at all
//! ```
//!
//! Not here: compressed images, which must be written once before their length is known.

mod allocation;
mod contract;
mod layout;
mod materialise;
mod qcow2;
mod raw;

pub use contract::View;
pub use materialise::{OnProgress, copy_to, materialise};
pub use qcow2::Qcow2View;
pub use raw::RawView;

#[cfg(test)]
mod tests;
