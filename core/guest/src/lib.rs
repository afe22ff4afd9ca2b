//! Reads what is inside a disk, without running or changing anything of it, and compares it with what the machines of
//! a target need. Needs no privileges: file systems are read by this program, not by the kernel.
//!
//! ```text
//! inspect.rs ─▶ source.rs    reads the disk within limits of time, bytes, and steps
//!               volume/      partitions, LVM, and what each volume holds
//!               fs/, tree.rs ext2/3/4 and FAT; the tree that a system mounts
//!               boot/        boot loaders and their entries;  initramfs/  modules in an initramfs
//!               system/      os-release, kernels, fstab, network, agents, machine-specific data
//!               sbom/        packages of dpkg, rpm, and apk, as CycloneDX and SPDX
//! model.rs      the result, as data;  attributes.rs  what a cloud records of it
//! check/        compares it with requirements.rs, and reports finding.rs
//! ```
//!
//! A disk is hostile until it was read: every reader returns an error for malformed data, and every loop ends.
#![forbid(unsafe_code)]

mod attributes;
mod boot;
mod bytes;
mod check;
mod finding;
mod fs;
#[doc(hidden)]
pub mod fuzzing;
mod initramfs;
mod inspect;
pub mod model;
mod requirements;
pub mod sbom;
mod secret;
mod source;
mod system;
#[cfg(test)]
mod tests;
mod tree;
mod volume;

pub use attributes::Attributes;
pub use check::check;
pub use finding::{Finding, Severity};
pub use inspect::{inspect, inspect_with_packages};
pub use model::Inspection;
pub use requirements::{DriverNeed, Requirements};
pub use source::Limits;
