//! Installs provider plugins from a publisher: a signed index names the packages, their digests, and what they run on.
//!
//! ```text
//! index.rs       the index: its form, its signature, its expiry      origin.rs    where index and packages are read from
//! select.rs      the package that runs on this host                  registry.rs  artefacts in container registries
//! publishers.rs  pinned keys, and the newest index that was seen     document.rs  JSON files of this module
//! records.rs     what is installed                                   install.rs   from a source to installed plugins
//! place.rs       the provider directory, changed by one process      put.rs       verified files become installed ones
//! remove.rs      removes what was installed
//! ```
//!
//! Nothing of a package is run or loaded before its digest is the one in an index that the publisher's pinned key has
//! signed, or the one that the user gave.

mod document;
pub(crate) mod fuzzing;
mod index;
mod install;
mod origin;
mod place;
mod publishers;
mod put;
mod records;
mod registry;
mod remove;
mod select;

pub(crate) use install::{Consent, Installed, Installer, Outcome, Question};
pub(crate) use place::Place;
pub(crate) use publishers::Publishers;
pub(crate) use records::{Package, Standing};
pub(crate) use remove::not_installed;
pub(crate) use select::Wanted;

use crate::error::{Error, Stage};

/// Returns the error for a package, an index, or a publisher that is not accepted.
fn refused(message: impl Into<String>) -> Error {
    Error::new(Stage::Plugin, message)
}
