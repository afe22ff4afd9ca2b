//! Disks, and nothing but disks: image formats, installer ISOs, initrds and guests under qemu.
#![forbid(unsafe_code)]

pub mod error;
mod field;
pub mod format;
mod staged;

pub use error::{Error, Kind};
