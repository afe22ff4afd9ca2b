#![doc = include_str!("../README.md")]
//!
//! # Reading order
//!
//! [`Provider`] (the steps, in the order of their calls) → [`Context`] (the host's services for a step) →
//! [`Description`] and [`Setting`] (what a provider declares, as data) → [`document`] (what steps receive and
//! return) → [`Error`]. [`ready`] has ready-made parts. The boundary is implemented in `wire`, which authors need
//! not read.
//!
//! # Descriptions and documents
//!
//! Descriptions and documents gain members in minor versions. Create them with `new` or `default` and one method
//! per member. Members can be read and assigned, but a literal does not compile, because it would break with the
//! next member:
//!
//! ```
//! # use build_image_plugin_api::document::Image;
//! let mut image = Image::new("m-1", "web").region("eu-central-1");
//! image.name.push_str("-2");
//! ```
//!
//! ```compile_fail,E0639
//! # use build_image_plugin_api::document::Image;
//! let image = Image { id: "m-1".into(), name: "web".into(), ..Image::default() };
//! ```
#![deny(unsafe_code)]

mod builders;
#[cfg(feature = "conformance")]
pub mod conformance;
mod context;
mod describe;
mod disk;
pub mod document;
mod error;
#[cfg(feature = "http")]
pub mod http;
mod ovf;
mod provider;
pub mod ready;
mod resource;
pub mod retry;
mod scalar;
mod setting;
/// The guide for authors of providers.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/provider-authors.md")]
pub mod book {
    #[doc = include_str!("../docs/descriptions.md")]
    pub mod descriptions {}
    #[doc = include_str!("../docs/settings.md")]
    pub mod settings {}
    #[doc = include_str!("../docs/resources.md")]
    pub mod resources {}
    #[doc = include_str!("../docs/errors.md")]
    pub mod errors {}
    #[doc = include_str!("../docs/async.md")]
    #[cfg(feature = "async")]
    pub mod asynchronous {}
    #[doc = include_str!("../docs/http.md")]
    #[cfg(feature = "http")]
    pub mod http {}
    #[doc = include_str!("../docs/testing.md")]
    pub mod testing {}
}
#[cfg(feature = "testing")]
pub mod testing;
#[doc(hidden)]
pub mod wire;
mod words;

pub use context::{Context, Event, Host, LogLevel, LogRecord, Progress, ProgressUnit};
pub use describe::{
    AbiRange, Description, DiskNeeds, DriverNeed, GuestNeeds, LetterCase, MachineNeeds, NameRules,
    Status, TagRules,
};
pub use disk::{Archive, Compression, Disk, DiskFormat, DiskSpec, WrittenDisk};
pub use error::{Error, ErrorDocument, ErrorKind, Exhausted, Result};
pub use ovf::{Ovf, OvfConfiguration, OvfNetwork, OvfProduct, OvfProperty};
pub use provider::{Provider, Step, Steps};
pub use resource::Resource;
pub use setting::{Secret, Setting, SettingKind, Settings};
pub use words::{Architecture, BootMode, DiskVariant};

/// Detects a plugin that ends the process of its host.
#[cfg(feature = "host")]
#[doc(inline)]
pub use wire::ending as process_end;
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
