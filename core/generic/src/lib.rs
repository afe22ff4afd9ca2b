//! Installs any Linux from an ISO whose kernel and initrd install by themselves, with an answer file.
//!
//! The installation succeeds when the guest powers off, or when its console printed the text that the user names; a
//! reboot and a panic are failures. The crate implements [`build_image_disk::installer::Installer`]; it starts
//! nothing and knows no distribution beyond the places of boot files.
//!
//! ```text
//! rows.rs    settings                layout.rs    where ISOs keep kernel and initrd
//! generic.rs the installer           prepared.rs  one installation, its pass
//! ```
#![forbid(unsafe_code)]

mod generic;
mod layout;
mod prepared;
mod rows;

pub use generic::Generic;
pub use rows::rows;

/// Result of everything that an ISO or a setting can make impossible.
type Result<T, E = build_image_disk::installer::Refusal> = std::result::Result<T, E>;
