//! Disks, and nothing but disks: image formats, installer ISOs, initrds and guests under qemu.
#![forbid(unsafe_code)]

pub mod error;
mod field;
pub mod format;
pub mod initrd;
pub mod iso;
pub mod process;
pub mod qemu;
pub mod raw;
mod staged;
#[cfg(test)]
mod testing;
pub mod view;

pub use error::{Error, Kind};
