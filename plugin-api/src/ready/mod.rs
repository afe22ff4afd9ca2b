//! Provides ready-made parts for providers: plain Rust on top of the contract, compiled into the plugin. None of
//! their types crosses the boundary, so they are not part of the ABI.
//!
//! * [`directory`]: writes the finished disk as a file into IMAGE_DIR.
//! * [`files`]: writes files atomically, and locks them.
//! * [`appliance`]: describes the virtual machine for a VMDK in an OVF descriptor.
//! * [`inventory`]: filters and pages of listings.
//! * [`marks`]: tags and names that connect what a run created.
//! * [`scripted`]: implements a provider that makes the disk and leaves the upload to a script.

pub mod appliance;
mod digests;
pub mod directory;
pub mod inventory;
pub mod marks;
pub mod scripted;

pub use build_image_files as files;
