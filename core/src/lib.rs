//! Builds a registered cloud image from an installer ISO or a disk image.
//!
//! Reading order: `cli` (arguments) → `settings` (their values) → `plan` (decisions) → `pipeline` (execution) with
//! `installers` (what turns an ISO into a disk), `plugins` (providers), `journal` (progress on disk) and `report`
//! (output). This crate knows no cloud and no installer by name: providers declare their capabilities, and `main.rs`
//! registers the installers.
#![forbid(unsafe_code)]

use build_image_files::lock;

pub mod account;
pub mod artifacts;
pub mod boot_test;
pub mod bundle;
pub mod cli;
pub mod clock;
pub mod error;
pub mod exit;
pub mod groups;
pub mod install;
pub mod installers;
pub mod interrupt;
pub mod journal;
pub mod matrix;
pub mod once;
mod packages;
pub mod pipeline;
pub mod plan;
pub mod plugins;
pub mod publication;
pub mod random;
pub mod records;
mod registry;
pub mod report;
pub mod runs;
pub mod settings;
pub mod signature;
mod source;
pub mod tags;
pub mod trust;

/// Readers for the fuzz targets.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::{
        packages::fuzzing::{archive, challenge, index, manifest},
        plugins::is_message,
    };
}
