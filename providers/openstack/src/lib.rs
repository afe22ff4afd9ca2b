//! Implements the OpenStack provider of `build-image`: uploads a disk to the image service (Glance) and publishes it as
//! an image.
//!
//! Reading order: the steps below → `check`, `upload`, `publish`, `discard`, `inventory`, `manage` (implementation of
//! the steps) → `glance`
//! (the calls) → `cloud`, `http`, `retry` (how calls are made) → `login`, `clouds` (where credentials come from).
#![forbid(unsafe_code)]

mod changes;
mod check;
mod check_service;
mod cloud;
mod clouds;
mod config;
mod copies;
mod describe;
mod digest;
mod discard;
mod disk;
mod environment;
mod glance;
mod http;
mod image;
mod inventory;
mod items;
mod keystone;
mod login;
mod machines;
mod manage;
mod marks;
mod members;
mod owner;
mod properties;
mod publish;
mod record;
mod replace;
mod same;
mod settings;
mod stores;
mod stream;
mod transfer;
mod upload;
mod yaml;

use std::sync::Arc;

use build_image_plugin_api::{
    Context, Description, Disk, Provider, Result, Settings,
    document::{
        CheckReport, CheckRequest, DiscardRequest, Discarded, DiskRequest, Inventory,
        InventoryRequest, ManageOutcome, ManageRequest, RegisterRequest, Registered, UploadRequest,
        Uploaded,
    },
};

use cloud::Session;
use config::Config;

build_image_plugin_api::export_provider!(OpenStack);

/// Overwrites all memory that is freed: a plugin has a separate allocator, and the HTTP client copies tokens
/// into its memory.
#[global_allocator]
static MEMORY: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

/// OpenStack.
pub struct OpenStack {
    config: Config,
    session: Arc<Session>,
}

impl Provider for OpenStack {
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
