//! Tests on disks that are made here with mke2fs, mkfs.vfat, mcopy, and sfdisk: small trees with the files of real
//! systems. Full systems are inspected by `core/guest/tests/zoo.rs`.
//!
//! ```text
//! tools.rs     programs            parts.rs   initramfs, kernels, UEFI programs, boot records, LVM
//! disk.rs      a disk from trees   systems.rs the healthy systems
//! healthy.rs, faults.rs, judgement.rs, hostile.rs, limits.rs, packages.rs, rpm.rs, windows.rs   what is asserted
//! ```

mod disk;
mod faults;
mod healthy;
mod hostile;
mod judgement;
mod limits;
mod packages;
pub(crate) mod parts;
mod rpm;
mod systems;
pub(crate) mod tools;
mod windows;
