//! Installs BIG-IP: facts from the ISO, disk sizes, names, records, and how its guests are driven.
//!
//! The crate implements [`build_image_disk::installer::Installer`] and declares the settings of an installation. It
//! starts nothing: the engine runs the guests. It knows no provider; what a provider wishes of the guest arrives as
//! the contract's document.
//!
//! ```text
//! rows.rs      settings                         version.rs, ve_info.rs  versions, sizes of volumes on the ISO
//! bigip.rs     the installer                    sizing.rs    sizes of the disk and its volumes
//! prepared.rs  one installation, its passes     names.rs     names of files and images
//! facts.rs     facts of an ISO                  guest.rs     initrd, kernel arguments, markers
//! boot.rs      boot files of an ISO             injected.rs, tree.rs  UPDATE_IMAGE_FILES
//! records.rs   records for other programs       post-install  the script that ends the installation
//! ```
#![forbid(unsafe_code)]

mod bigip;
mod boot;
mod facts;
mod guest;
mod injected;
mod names;
mod prepared;
mod records;
mod rows;
mod sizing;
mod tree;
mod ve_info;
mod version;

pub use bigip::BigIp;
pub use facts::{Facts, read_facts, read_hotfix_facts};
pub use guest::{Additions, Guest, Pass, consoles, kernel_arguments};
pub use injected::{Injected, injected};
pub use names::{file_stem, internal_name, iso_name, seed};
pub use rows::rows;
pub use sizing::{Overrides, Shape, Sizes, compute};
pub use ve_info::{VeInfo, Volumes};
pub use version::Version;

/// Result of everything that an ISO or a setting can make impossible.
pub type Result<T, E = build_image_disk::installer::Refusal> = std::result::Result<T, E>;
