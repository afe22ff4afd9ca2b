//! The contract between `build-image` and its provider plugins as it was at 1.0: the plugin's half.
//!
//! # Reading order
//!
//! [`Provider`] (the steps, in the order of their calls) → [`Context`] (what a step may ask of the
//! host) → [`Description`] and [`Setting`] (what a provider says of itself, as data) → [`document`]
//! (what steps receive and return) → [`Error`]. The boundary itself lives in `wire` and is of no
//! concern to authors.
//!
//! # Literals
//!
//! Documents and descriptions gain fields in minor versions. End every literal of them with
//! `..Default::default()`, and it keeps compiling. The compiler insists on it: each of them has a field
//! that nobody names.
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

mod context;
mod describe;
mod disk;
pub mod document;
mod error;
mod ovf;
mod provider;
mod resource;
mod setting;
#[doc(hidden)]
pub mod wire;

pub use context::{Context, Event, Host, LogLevel, LogRecord, Progress, ProgressUnit};
pub use describe::{
    AbiRange, Description, DiskNeeds, GuestNeeds, LetterCase, NameRules, Status, TagRules,
};
pub use disk::{Archive, Compression, Disk, DiskFormat, DiskSpec};
pub use error::{Error, ErrorKind, Result};
pub use ovf::{Ovf, OvfConfiguration, OvfNetwork, OvfProduct, OvfProperty};
pub use provider::{Provider, Steps};
pub use resource::Resource;
pub use setting::{Secret, Setting, SettingKind, Settings};


/// The ABI this crate speaks, `major.minor`. Equals the first two numbers of the crate's version.
pub const ABI_VERSION: &str = "1.0";

/// Plugin file name for provider `name`: `libbuild_image_provider_<name>.so`.
#[must_use]
pub fn plugin_file_name(name: &str) -> String {
    format!("{PLUGIN_FILE_PREFIX}{name}{PLUGIN_FILE_SUFFIX}")
}

/// What every plugin's file name starts with.
pub const PLUGIN_FILE_PREFIX: &str = "libbuild_image_provider_";
/// What every plugin's file name ends with.
pub const PLUGIN_FILE_SUFFIX: &str = ".so";

#[cfg(test)]
mod tests {
    #[test]
    fn abi_version_follows_the_crate_version() {
        assert!(env!("CARGO_PKG_VERSION").starts_with(&format!("{}.", super::ABI_VERSION)));
    }
}
