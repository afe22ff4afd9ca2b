//! Disks, and nothing but disks: image formats, installer ISOs, initrds and guests under qemu.
//!
//! The crate knows no cloud, no plugin and no product. Which paths lie in an ISO, which files go into
//! an initrd, which kernel arguments a guest gets and which words on its console mean success: the
//! caller says so. Everything is synchronous; long work takes a callback that may stop it.
//!
//! Read in this order:
//!
//! 1. [`error`]: one error type, kind + object + hint
//! 2. [`mod@format`]: what a file is, and the guest's bytes in it; [`packed`]: when gzip, xz or zstd is
//!    around it; [`facts`]: what the disk says of itself
//! 3. [`view`]: a disk as an image that is never written, or is written at the end
//! 4. [`pack`]: images and archives that are written once, compressed; [`ovf`]: what goes with a VMDK
//! 5. [`iso`] and [`initrd`]: what an installation starts from
//! 6. [`qemu`]: the installation itself; [`process`] is its door to other programs
//! 7. [`raw`]: the empty disk it fills
//! 8. [`FileStamp`]: whether a file is still the one that was opened
//!
//! Files are written beside their place and renamed: what has its name is complete.
#![forbid(unsafe_code)]

pub mod error;
pub mod facts;
mod field;
pub mod format;
pub mod initrd;
pub mod iso;
pub mod ovf;
pub mod pack;
pub mod packed;
pub mod partner;
pub mod process;
pub mod qemu;
pub mod raw;
mod staged;
mod stamp;
#[cfg(test)]
mod testing;
pub mod view;

pub use error::{Error, Kind};
pub use format::{Format, GuestReader, Probe, export_raw, probe};
pub use iso::Iso;
pub use process::Environment;
pub use qemu::{Machine, Qemu};
pub use staged::remove_abandoned;
pub use stamp::FileStamp;
pub use view::{Qcow2View, RawView, VhdView, View};
