#![doc = include_str!("../README.md")]
//!
//! # Reading order
//!
//! [`Provider`] (the steps, in the order of their calls) → [`Context`] (the host's services for a step) →
//! [`Description`] and [`Setting`] (what a provider declares, as data) → [`document`] (what steps receive and
//! return) → [`Error`]. [`ready`] has ready-made parts. The boundary is implemented in `wire`, which authors need
//! not read.
//!
//! # Literals
//!
//! Documents and descriptions gain fields in minor versions. End every literal of them with
//! `..Default::default()`, and it keeps compiling. The compiler enforces this: each of them has a field that
//! cannot be named.
//!
//! ```compile_fail,E0063
//! # use build_image_plugin_api::document::Image;
//! let image = Image { id: "m-1".into(), name: "web".into(), region: None };
//! ```
//!
//! ```
//! # use build_image_plugin_api::document::Image;
//! let image = Image { id: "m-1".into(), name: "web".into(), ..Image::default() };
//! ```
#![deny(unsafe_code)]

#[cfg(feature = "conformance")]
pub mod conformance;
mod context;
mod describe;
mod disk;
pub mod document;
mod error;
mod ovf;
mod provider;
pub mod ready;
mod resource;
mod setting;
/// The guide for authors of providers.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/provider-authors.md")]
pub mod book {}
#[cfg(feature = "testing")]
pub mod testing;
#[doc(hidden)]
pub mod wire;

pub use context::{Context, Event, Host, LogLevel, LogRecord, Progress, ProgressUnit};
pub use describe::{
    AbiRange, Description, DiskNeeds, GuestNeeds, LetterCase, NameRules, Status, TagRules,
};
pub use disk::{Archive, Compression, Disk, DiskFormat, DiskSpec};
pub use error::{Error, ErrorDocument, ErrorKind, Exhausted, Result};
pub use ovf::{Ovf, OvfConfiguration, OvfNetwork, OvfProduct, OvfProperty};
pub use provider::{Provider, Step, Steps};
pub use resource::Resource;
pub use setting::{Secret, Setting, SettingKind, Settings};

#[cfg(feature = "host")]
pub use wire::{
    elf::{ElfReport, PluginMetadata},
    import::{Library, LoadError, LoadErrorKind, check_abi},
};

/// The ABI version of this crate, `major.minor`. Equals the first two numbers of the crate's version.
pub const ABI_VERSION: &str = "1.1";

/// Returns the plugin file name of provider `name`: `libbuild_image_provider_<name>.so`.
#[must_use]
pub fn plugin_file_name(name: &str) -> String {
    format!("{PLUGIN_FILE_PREFIX}{name}{PLUGIN_FILE_SUFFIX}")
}

/// Prefix of every plugin's file name.
pub const PLUGIN_FILE_PREFIX: &str = "libbuild_image_provider_";
/// Suffix of every plugin's file name.
pub const PLUGIN_FILE_SUFFIX: &str = ".so";

#[cfg(test)]
mod tests {
    #[test]
    fn abi_version_follows_the_crate_version() {
        assert!(env!("CARGO_PKG_VERSION").starts_with(&format!("{}.", super::ABI_VERSION)));
    }
}
