//! Implements the host's half: loads a plugin file as [`Steps`]. Libraries are never unloaded.
//!
//! The loader of the ABI crate keeps one module per process and refuses plugins older than the host; therefore the
//! header is read directly, and layouts are compared in the direction older → newer, in which append-only growth
//! is legal.

use std::{
    fmt,
    fs::File,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use abi_stable::{
    StableAbi as _,
    abi_stability::{abi_checking::AbiInstabilityErrors, check_layout_compatibility},
    library::{AbiHeaderRef, LibHeader, ROOT_MODULE_LOADER_NAME_WITH_NUL},
    std_types::{RArc, RStr},
    type_layout::{TLFieldOrFunction, TypeLayout},
    type_level::downcasting::TD_Opaque,
};
use libloading::os::unix::{Library as Dynamic, RTLD_LOCAL, RTLD_NOW};

pub use super::lend::RawInstance;
use super::{
    abi::{HostAbi_TO, ProviderModule_Ref, ProviderObject},
    convert::{guard, parse, print},
    elf,
    lend::{Instance, LentHost},
};
use crate::{Description, Error, Host, Result, Settings, Steps};

/// Longest description that is read, in bytes; the description of a cloud with many settings has about 30,000.
const DESCRIPTION_LIMIT: usize = 4 << 20;

/// Why a plugin did not load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadErrorKind {
    /// The file cannot be read.
    Unreadable,
    /// It is not an ELF shared library.
    NotElf,
    /// It was built for another machine.
    WrongMachine,
    /// It ends before its segments end.
    Truncated,
    /// It is a library, but not a provider plugin.
    NotAPlugin,
    /// It uses another major version of the ABI.
    OtherMajor,
    /// It requires a newer host.
    NeedsNewerHost,
    /// Its types do not match the host's types.
    Layout,
    /// The system's loader refused it.
    Refused,
    /// Its description is malformed or cannot be read.
    Describe,
}

/// A plugin that did not load: the file, the reason, and what to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadError {
    /// Kind of the failure.
    pub kind: LoadErrorKind,
    /// The plugin's file.
    pub path: PathBuf,
    /// The reason, as a lower-case fragment.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Details for the log.
    pub detail: Option<String>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin `{}` does not load: {}", self.path.display(), self.message)
    }
}

impl std::error::Error for LoadError {}

/// A [`LoadError`] without the path of its file.
pub(super) struct Problem {
    kind: LoadErrorKind,
    message: String,
    hint: Option<String>,
    detail: Option<String>,
}

impl Problem {
    pub(super) fn new(kind: LoadErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, detail: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn at(self, path: &Path) -> LoadError {
        LoadError {
            kind: self.kind,
            path: path.to_owned(),
            message: self.message,
            hint: self.hint,
            detail: self.detail,
        }
    }
}

/// A loaded plugin. It stays in memory until the process ends.
pub struct Library {
    module: ProviderModule_Ref,
    layout: &'static TypeLayout,
    description: Description,
    abi: String,
}

impl Library {
    /// Inspects a file without loading it; `path` is used for messages only.
    ///
    /// # Errors
    /// [`LoadError`] when it cannot be a plugin for this machine.
    pub fn inspect(file: &File, path: &Path) -> Result<elf::ElfReport, LoadError> {
        elf::inspect(file).map_err(|problem| problem.at(path))
    }

    /// Checks and loads exactly the opened file, and reads its description.
    ///
    /// # Errors
    /// [`LoadError`] with file, reason and hint.
    pub fn open(file: &File, path: &Path) -> Result<Self, LoadError> {
        Self::load(file).map_err(|problem| problem.at(path))
    }

    fn load(file: &File) -> Result<Self, Problem> {
        elf::inspect(file)?;
        let header = header(file)?;
        let strings = header.version_strings();
        let abi = abi_of(strings.version.as_str());
        let minor = check_major(abi)?;
        let layout = header.layout().ok_or_else(|| {
            Problem::new(LoadErrorKind::Layout, "the plugin was built without its type layout")
        })?;
        check_layout(layout, minor)?;
        let module = root_module(header)?;
        let text = describe(module)
            .map_err(|error| Problem::new(LoadErrorKind::Describe, error.to_string()))?;
        if text.len() > DESCRIPTION_LIMIT {
            return Err(Problem::new(
                LoadErrorKind::Describe,
                format!("its description has {} bytes, more than {DESCRIPTION_LIMIT}", text.len()),
            ));
        }
        let description: Description = parse(&text, "description").map_err(|error| {
            Problem::new(LoadErrorKind::Describe, format!("{error}: {}", error.causes.join(": ")))
        })?;
        check_requires(&description)?;
        Ok(Self { module, layout, description, abi: strings.version.as_str().to_owned() })
    }

    /// Calls `describe` again; returns the document as the plugin wrote it.
    ///
    /// # Errors
    /// The provider's.
    pub fn describe_text(&self) -> Result<String> {
        describe(self.module)
    }

    /// Returns the provider's description.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Returns the plugin's view of the ABI, for tests of its evolution.
    #[doc(hidden)]
    #[must_use]
    pub fn layout(&self) -> &'static TypeLayout {
        self.layout
    }

    /// Returns the version of the plugin-api crate that the plugin was built with.
    #[must_use]
    pub fn api_version(&self) -> &str {
        &self.abi
    }

    /// Creates an instance.
    ///
    /// # Errors
    /// The provider's.
    pub fn create(&self, host: Arc<dyn Host>, settings: &Settings) -> Result<Box<dyn Steps>> {
        let settings = print(settings)?;
        let object = self.instance(host, settings.as_rstr())?;
        Ok(Box::new(Instance { object, description: self.description.clone() }))
    }

    /// Creates an instance that accepts documents as texts, malformed ones too.
    ///
    /// # Errors
    /// The provider's.
    #[doc(hidden)]
    pub fn create_raw(&self, host: Arc<dyn Host>, settings: &str) -> Result<RawInstance> {
        Ok(RawInstance(self.instance(host, settings.into())?))
    }

    fn instance(&self, host: Arc<dyn Host>, settings: RStr<'_>) -> Result<ProviderObject> {
        let object = HostAbi_TO::from_ptr(RArc::new(LentHost(host)), TD_Opaque);
        let create = self.module.create();
        guard("create", || create(object, settings).into_result().map_err(Error::from))
    }
}

fn describe(module: ProviderModule_Ref) -> Result<String> {
    let text = guard("describe", || (module.describe())().into_result().map_err(Error::from))?;
    Ok(text.into_string())
}

/// Returns the major and minor number of a version text.
fn abi_of(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn own_abi() -> (u32, u32) {
    abi_of(crate::ABI_VERSION).expect("the crate's own version is two numbers")
}

fn check_major(abi: Option<(u32, u32)>) -> Result<u32, Problem> {
    let (major, minor) = abi.ok_or_else(|| {
        Problem::new(LoadErrorKind::OtherMajor, "the plugin does not say which ABI it speaks")
    })?;
    let own = own_abi();
    if major == own.0 {
        return Ok(minor);
    }
    Err(Problem::new(
        LoadErrorKind::OtherMajor,
        format!("it speaks plugin ABI {major}.{minor}, this build-image speaks {}.x", own.0),
    )
    .hint(if major > own.0 {
        "use a newer build-image, or an older release of the provider"
    } else {
        "get a newer release of the provider"
    }))
}

/// Checks whether this host supports the ABI, or the documents, that a description requires; `path` names the
/// plugin in the error.
///
/// # Errors
/// [`LoadErrorKind::NeedsNewerHost`].
pub fn check_abi(path: &Path, description: &Description) -> Result<(), LoadError> {
    check_requires(description).map_err(|problem| problem.at(path))
}

fn check_requires(description: &Description) -> Result<(), Problem> {
    let (own, needed) = (own_abi(), abi_of(&description.abi.requires));
    if needed.is_some_and(|needed| needed.0 == own.0 && needed.1 <= own.1) {
        return Ok(());
    }
    Err(Problem::new(
        LoadErrorKind::NeedsNewerHost,
        format!(
            "it needs plugin ABI {}, this build-image has {}",
            description.abi.requires,
            crate::ABI_VERSION
        ),
    )
    .hint("use a newer build-image"))
}

#[expect(unsafe_code, reason = "opening a library runs its constructors; reading its one symbol")]
fn header(file: &File) -> Result<&'static LibHeader, Problem> {
    // Loads the very bytes that were checked and hashed, even if the path now refers to another file. The
    // descriptor stays open: the system's loader identifies libraries by their path, and a reused descriptor
    // number would return the first library for the second file.
    let kept = file.try_clone().map_err(|error| {
        Problem::new(LoadErrorKind::Unreadable, format!("the file cannot be kept open: {error}"))
    })?;
    let path = format!("/proc/self/fd/{}", kept.as_raw_fd());
    std::mem::forget(kept);
    // SAFETY: loading native code chosen by the user; the file passed the checks of `elf::inspect`.
    let library =
        unsafe { Dynamic::open(Some(&path), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| {
            let reason = std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), ToString::to_string);
            Problem::new(
                LoadErrorKind::Refused,
                format!("the system's loader refuses it: {reason}"),
            )
        })?;
    // SAFETY: the symbol, when present, is the header static that `export_provider!` defines; its validity is
    // checked below before anything else in it is used.
    let header = unsafe {
        library
            .get::<AbiHeaderRef>(ROOT_MODULE_LOADER_NAME_WITH_NUL.as_bytes())
            .map(|symbol| *symbol)
    };
    std::mem::forget(library);
    let header = header.map_err(|error| {
        Problem::new(LoadErrorKind::NotAPlugin, format!("its entry symbol is missing: {error}"))
    })?;
    if !header.is_valid() {
        return Err(Problem::new(
            LoadErrorKind::OtherMajor,
            "it was built with another generation of the ABI library",
        )
        .hint("get a newer release of the provider"));
    }
    header.upgrade().map_err(|error| {
        let mut problem =
            Problem::new(LoadErrorKind::Layout, "its C ABI differs from this machine's");
        problem.detail = Some(error.to_string());
        problem
    })
}

#[expect(unsafe_code, reason = "the layout is checked by the caller, in both directions")]
fn root_module(header: &'static LibHeader) -> Result<ProviderModule_Ref, Problem> {
    // SAFETY: `check_layout` compared the plugin's layout with ours in the direction in which append-only growth
    // is legal; missing fields and methods are read through presence data.
    unsafe { header.init_root_module_with_unchecked_layout::<ProviderModule_Ref>() }.map_err(
        |error| {
            Problem::new(LoadErrorKind::Layout, format!("its root module does not start: {error}"))
        },
    )
}

fn check_layout(theirs: &'static TypeLayout, minor: u32) -> Result<(), Problem> {
    let ours = ProviderModule_Ref::LAYOUT;
    let (older, newer) = if minor <= own_abi().1 { (theirs, ours) } else { (ours, theirs) };
    check_layout_compatibility(older, newer).into_result().map_err(|error| {
        let detail = format!("{error:#?}");
        let summary = error.downcast_ref::<AbiInstabilityErrors>().map(compact);
        let mut problem = Problem::new(
            LoadErrorKind::Layout,
            summary.unwrap_or_else(|| "its types contradict plugin ABI 1".to_owned()),
        )
        .hint("rebuild the provider with a released build-image-plugin-api");
        problem.detail = Some(detail);
        problem
    })
}

/// Returns the first mismatch, as type path and expectation; the full report has thousands of lines.
fn compact(errors: &AbiInstabilityErrors) -> String {
    let place = errors.errors.iter().find(|place| !place.errs.is_empty());
    let Some(place) = place else { return "its types contradict plugin ABI 1".to_owned() };
    let names = place.stack_trace.iter().map(|entry| match entry.found {
        TLFieldOrFunction::Field(field) => field.name(),
        TLFieldOrFunction::Function(function) => function.name.as_str(),
    });
    let path: Vec<&str> = names.collect();
    let first = place.errs.first().map(|error| format!("{error:?}")).unwrap_or_default();
    let first: String =
        first.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(160).collect();
    format!("its types contradict plugin ABI 1 at `{}`: {first}", path.join(" › "))
}
