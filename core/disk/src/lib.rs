//! Handles disks: image formats, installer ISOs, initrds, and guests in qemu.
//!
//! The crate does not depend on any cloud, plugin, or product. The caller specifies the paths in an ISO, the
//! files for an initrd, the kernel arguments of a guest, and the texts on its console that mean success.
//! Everything is synchronous; long operations have a callback that can stop them.
//!
//! Read in this order:
//!
//! 1. [`error`]: one error type, kind + object + hint
//! 2. [`mod@format`]: detects the format of a file and reads the guest content; [`packed`]: unpacks gzip, xz,
//!    or zstd around it; [`signature`]: names content and foreign formats; [`facts`]: detects partitions, firmware, and
//!    architecture
//! 3. [`view`]: a disk as an image that is computed while it is read, and optionally written at the end
//! 4. [`pack`]: compressed images and archives, which are written once; [`ovf`]: the files that accompany a
//!    VMDK
//! 5. [`iso`] and [`initrd`]: the inputs of an installation
//! 6. [`qemu`]: the installation itself, and boot tests, to which [`nbd`] serves views; [`process`] starts other programs
//! 7. [`raw`]: creates the empty disk that is installed to
//! 8. [`installer`]: what the engine asks of an installer, and the documents between both
//! 9. [`FileStamp`]: detects whether a file is still the one that was opened
//!
//! Files are written under a temporary name and renamed: a file with its final name is complete.
#![forbid(unsafe_code)]

pub mod error;
pub mod facts;
mod field;
mod flush;
pub mod format;
pub mod initrd;
pub mod installer;
pub mod iso;
pub mod nbd;
pub mod ovf;
pub mod pack;
pub mod packed;
pub mod partner;
pub mod process;
pub mod qemu;
pub mod raw;
pub mod signature;
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
