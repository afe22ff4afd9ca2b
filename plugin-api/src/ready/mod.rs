//! Ready-made parts for providers: plain Rust over the contract, compiled into the plugin. Nothing of
//! them crosses the boundary, so they are no part of the ABI.
//!
//! * [`folder`]: the finished disk becomes a file in IMAGE_DIR.
//! * [`files`]: files that appear complete or not at all, and locks.
//! * [`appliance`]: the machine beside a VMDK, as an OVF descriptor tells it.
//! * [`scripted`]: a provider that makes the disk and leaves the upload to a script.

pub mod appliance;
mod digests;
pub mod directory;
pub mod scripted;

pub use build_image_files as files;
