//! Defines the provider under test, as the host sees it: a library or a program.

use std::{fs::File, path::Path, sync::Arc};

use super::host::DiskBytes;
use crate::{
    Description, DiskSpec, Error, Host, Library, Result, Settings, Steps,
    wire::{import::RawInstance, linkage::Linkage},
};

/// A provider that was opened. Each kind of connection to a provider has an implementation.
pub trait Subject: Send + Sync {
    /// Returns the description that was read when it was opened.
    fn description(&self) -> &Description;

    /// Calls `describe` again; returns the document as it was written.
    ///
    /// # Errors
    /// The provider's.
    fn describe(&self) -> Result<String>;

    /// Returns the version of plugin-api that it was built with.
    fn api_version(&self) -> String;

    /// Creates an instance.
    ///
    /// # Errors
    /// The provider's.
    fn create(&self, host: Arc<dyn Host>, settings: &Settings) -> Result<Box<dyn Steps>>;

    /// Creates an instance that accepts documents as texts; `None` where that is not possible.
    fn create_raw(&self, host: Arc<dyn Host>, settings: &str) -> Option<Result<Box<dyn RawSteps>>> {
        let (_, _) = (host, settings);
        None
    }

    /// Returns whether documents that are not JSON can be sent to it.
    fn takes_any_text(&self) -> bool {
        true
    }
}

/// Steps that accept and return documents as texts, malformed ones too.
pub trait RawSteps: Send + Sync {
    /// Calls a step by name.
    ///
    /// # Errors
    /// The word of the error's kind as the provider wrote it, and the error.
    fn call(&self, step: &str, request: &str) -> Result<String, (String, Error)>;
}

/// Why a file is not a provider, and what to do.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Refusal {
    /// Lower-case fragment.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Refusal {
    /// Creates a refusal.
    pub fn new(message: impl Into<String>, hint: Option<String>) -> Self {
        Self { message: message.into(), hint }
    }
}

/// How the suite opens providers and makes disks; the host replaces both with its own functions.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Ways {
    /// Opens a provider file exactly as builds do.
    pub open: fn(&Path) -> Result<Box<dyn Subject>, Refusal>,
    /// Returns a disk of this many bytes in the given format.
    pub disk: fn(&DiskSpec, u64) -> Result<Arc<dyn DiskBytes>>,
}

impl Ways {
    /// Creates ways to open a provider and to make a disk.
    #[must_use]
    pub fn new(
        open: fn(&Path) -> Result<Box<dyn Subject>, Refusal>,
        disk: fn(&DiskSpec, u64) -> Result<Arc<dyn DiskBytes>>,
    ) -> Self {
        Self { open, disk }
    }
}

impl Default for Ways {
    fn default() -> Self {
        Self { open: open_library, disk: super::host::plain_disk }
    }
}

fn open_library(path: &Path) -> Result<Box<dyn Subject>, Refusal> {
    let unreadable = |error: std::io::Error| Refusal {
        message: format!("`{}` cannot be read: {error}", path.display()),
        hint: None,
    };
    let file = File::open(path).map_err(unreadable)?;
    let library = Library::open(&file, path)
        .map_err(|error| Refusal { message: error.to_string(), hint: error.hint })?;
    Ok(Box::new(library))
}

impl Subject for Library {
    fn description(&self) -> &Description {
        Self::description(self)
    }

    fn describe(&self) -> Result<String> {
        self.describe_text()
    }

    fn api_version(&self) -> String {
        Self::api_version(self).to_owned()
    }

    fn create(&self, host: Arc<dyn Host>, settings: &Settings) -> Result<Box<dyn Steps>> {
        Self::create(self, host, settings)
    }

    fn create_raw(&self, host: Arc<dyn Host>, settings: &str) -> Option<Result<Box<dyn RawSteps>>> {
        let made = Self::create_raw(self, host, settings);
        Some(made.map(|instance| Box::new(instance) as Box<dyn RawSteps>))
    }
}

impl RawSteps for RawInstance {
    fn call(&self, step: &str, request: &str) -> Result<String, (String, Error)> {
        Self::call(self, step, request)
    }
}

/// Returns what a library file exports and needs; `None` for files that are not libraries.
pub(super) fn linkage(path: &Path) -> Option<Linkage> {
    Linkage::of(&File::open(path).ok()?).ok()
}
