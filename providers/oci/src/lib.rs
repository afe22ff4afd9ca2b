//! Implements the OCI provider of `build-image`: uploads a disk to a registry, as a container disk for KubeVirt or as
//! an artifact.
//!
//! Reading order: the steps below → `check`, `upload`, `publish`, `discard`, `inventory`, `manage` (implementation of
//! the steps) → `push`, `session` (how a layer is sent), `source`, `flow` (what it is made of), `manifest` → `registry`, `http`, `retry` (how
//! calls are made) → `credentials`, `challenge`, `token`.
//!
//! The HTTP calls are made here: `oci-client` has neither resumable uploads from a view nor a place to journal them.
#![forbid(unsafe_code)]

mod challenge;
mod check;
mod config;
mod credentials;
mod describe;
mod discard;
mod disk;
mod environment;
mod flow;
mod http;
mod inventory;
mod manage;
mod manifest;
mod marks;
mod owner;
mod publish;
mod push;
mod reference;
mod registry;
mod same;
mod session;
mod settings;
mod source;
mod token;
mod transfer;
mod upload;

use std::sync::Arc;

use build_image_plugin_api::{
    Context, Description, Disk, Provider, Result, Settings,
    document::{
        CheckReport, CheckRequest, DiscardRequest, Discarded, DiskRequest, Inventory,
        InventoryRequest, ManageOutcome, ManageRequest, RegisterRequest, Registered, UploadRequest,
        Uploaded,
    },
};

use config::Config;
use registry::Session;

build_image_plugin_api::export_provider!(Oci);

/// Overwrites all memory that is freed: a plugin has a separate allocator, and the HTTP client copies passwords and
/// tokens into its memory.
#[global_allocator]
static MEMORY: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

/// OCI registries.
pub struct Oci {
    config: Config,
    session: Arc<Session>,
}

impl Provider for Oci {
    fn describe() -> Description {
        describe::description()
    }

    fn create(_context: &Context, settings: Settings) -> Result<Self> {
        Ok(Self { config: Config::read(&settings)?, session: Arc::default() })
    }

    fn check(&self, context: &Context, request: &CheckRequest) -> Result<CheckReport> {
        if !request.same.is_empty() {
            return same::compare(context, &self.config, &self.session, request);
        }
        check::check(context, &self.config, &self.session, request)
    }

    fn create_disk(&self, context: &Context, request: &DiskRequest) -> Result<Disk> {
        let mut spec = self.config.disk.clone();
        if request.for_image_dir {
            spec.archive = request.spec.archive;
            spec.member = format!("{}.{}", request.build.file_stem, spec.format.word());
        }
        context.make_disk(&spec)
    }

    fn upload(&self, context: &Context, request: &UploadRequest) -> Result<Uploaded> {
        upload::upload(context, &self.config, &self.session, request)
    }

    fn register(&self, context: &Context, request: &RegisterRequest) -> Result<Registered> {
        publish::register(context, &self.config, &self.session, request)
    }

    fn discard(&self, context: &Context, request: &DiscardRequest) -> Result<Discarded> {
        discard::discard(context, &self.config, &self.session, request)
    }

    fn inventory(&self, context: &Context, request: &InventoryRequest) -> Result<Inventory> {
        inventory::inventory(context, &self.config, &self.session, request)
    }

    fn manage(&self, context: &Context, request: &ManageRequest) -> Result<ManageOutcome> {
        manage::manage(context, &self.config, &self.session, request)
    }
}
