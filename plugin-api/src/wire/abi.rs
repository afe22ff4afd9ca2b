//! THE ABI, version 1.1: the only types that cross the boundary. Frozen.
//!
//! It may grow within major 1 by fields appended to [`ProviderModule`] and methods with a default body
//! appended to the two traits; names of fields, methods and parameters are part of it, and
//! `last_prefix_field` never moves. Every such change raises the minor version and has its own section
//! in the changelog.
#![allow(
    unsafe_code,
    missing_docs,
    non_local_definitions,
    non_camel_case_types,
    unused_braces,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::allow_attributes,
    reason = "expansion of the ABI derives"
)]

use abi_stable::{
    StableAbi,
    library::RootModule,
    package_version_strings, sabi_trait,
    sabi_types::VersionStrings,
    std_types::{RArc, RBox, ROption, RResult, RSliceMut, RStr, RString},
};

/// Root of a plugin.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ProviderModule_Ref, prefix_fields = ProviderModule_Prefix)))]
pub struct ProviderModule {
    /// The description document. Pure.
    pub describe: extern "C" fn() -> RResult<RString, FfiError>,
    /// Makes an instance from the host's services and the settings document.
    #[sabi(last_prefix_field)]
    pub create:
        extern "C" fn(host: HostObject, settings: RStr<'_>) -> RResult<ProviderObject, FfiError>,
}

impl RootModule for ProviderModule_Ref {
    abi_stable::declare_root_module_statics! {ProviderModule_Ref}
    const BASE_NAME: &'static str = "build_image_provider";
    const NAME: &'static str = "build_image_provider";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

/// An error on the wire. Frozen for ever; growth goes into `details_json`.
#[repr(C)]
#[derive(StableAbi)]
pub struct FfiError {
    pub code: RString,
    pub message: RString,
    pub retryable: bool,
    pub details_json: RString,
}

/// A progress on the wire. Frozen for ever.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct FfiProgress {
    pub task: u32,
    pub unit: u32,
    pub done: u64,
    pub total: u64,
}

/// An instance of a provider, owned by the host.
pub type ProviderObject = ProviderAbi_TO<RBox<()>>;
/// The host's services, shared with the plugin.
pub type HostObject = HostAbi_TO<RArc<()>>;

/// Steps: a JSON request in, a JSON answer out.
#[sabi_trait]
pub trait ProviderAbi: Send + Sync + 'static {
    fn check(&self, request: RStr<'_>) -> RResult<RString, FfiError>;
    fn create_disk(&self, request: RStr<'_>) -> RResult<RString, FfiError>;
    fn upload(&self, request: RStr<'_>) -> RResult<RString, FfiError>;
    fn register(&self, request: RStr<'_>) -> RResult<RString, FfiError>;
    #[sabi(last_prefix_field)]
    fn discard(&self, request: RStr<'_>) -> RResult<RString, FfiError>;
    /// Since 1.1.
    fn inventory(&self, request: RStr<'_>) -> RResult<RString, FfiError> {
        missing(request)
    }
    /// Since 1.1.
    fn manage(&self, request: RStr<'_>) -> RResult<RString, FfiError> {
        missing(request)
    }
    /// Since 1.1.
    fn locate(&self, request: RStr<'_>) -> RResult<RString, FfiError> {
        missing(request)
    }
}

/// The answer of a method that the plugin was built without.
fn missing(_: RStr<'_>) -> RResult<RString, FfiError> {
    RResult::RErr(FfiError {
        code: RString::from("unsupported"),
        message: RString::from("the provider was built for an older plugin ABI"),
        retryable: false,
        details_json: RString::from(r#"{"hint":"use a newer release of the provider"}"#),
    })
}

/// Services of the host. Callable from any thread between `create` and the end of the instance's drop.
#[sabi_trait]
pub trait HostAbi: Send + Sync + 'static {
    fn log(&self, level: u32, target: RStr<'_>, message: RStr<'_>, fields_json: RStr<'_>);
    fn progress(&self, progress: FfiProgress);
    fn is_cancelled(&self) -> bool;
    fn wait(&self, milliseconds: u64) -> bool;
    fn event(&self, event_json: RStr<'_>) -> RResult<(), FfiError>;
    fn secret(&self, key: RStr<'_>) -> RResult<ROption<RString>, FfiError>;
    fn checkpoint_save(&self, key: RStr<'_>, document_json: RStr<'_>) -> RResult<(), FfiError>;
    fn checkpoint_load(&self, key: RStr<'_>) -> RResult<ROption<RString>, FfiError>;
    fn make_disk(&self, spec_json: RStr<'_>) -> RResult<RString, FfiError>;
    #[sabi(last_prefix_field)]
    fn disk_read_at(
        &self,
        disk: u64,
        offset: u64,
        buffer: RSliceMut<'_, u8>,
    ) -> RResult<u64, FfiError>;
    /// Since 1.1.
    fn disk_write(&self, disk: u64, path: RStr<'_>) -> RResult<RString, FfiError> {
        let _ = disk;
        no_service(path)
    }
}

/// The answer of a host that was built without a service.
fn no_service(_: RStr<'_>) -> RResult<RString, FfiError> {
    RResult::RErr(FfiError {
        code: RString::from("unsupported"),
        message: RString::from("the host was built for an older plugin ABI"),
        retryable: false,
        details_json: RString::from(r#"{"hint":"use a newer build-image"}"#),
    })
}
