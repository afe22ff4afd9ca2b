//! Ready-made parts for providers: plain Rust over the contract, compiled into the plugin. Nothing of
//! them crosses the boundary, so they are no part of the ABI.
//!
//! * [`folder`]: the finished disk becomes a file in IMAGE_DIR.
//! * [`appliance`]: the machine beside a VMDK, as an OVF descriptor tells it.
//! * [`by_hand`]: a provider that makes the disk and leaves the upload to a script.

pub mod appliance;
pub mod by_hand;
pub mod folder;
