//! Implements the Alibaba Cloud provider of `build-image`: turns a disk into an ECS custom image through an
//! OSS bucket.
//!
//! Reading order: the steps below → `check`, `upload`, `publish`, `discard` (implementation of the steps) →
//! `oss`, `multipart`, `ecs`, `sts` (the calls) → `acs`, `client`, `retry`, `sign` (how calls are made).
#![forbid(unsafe_code)]

mod accounts;
mod acs;
mod check;
mod check_bucket;
mod check_copies;
mod check_plain;
mod client;
mod clock;
mod cloud;
mod codes;
mod concurrency;
mod config;
mod copies;
mod copy_keys;
mod credentials;
mod delta;
mod describe;
mod discard;
mod disk;
mod ecs;
mod endpoint;
mod expected;
mod finish;
mod guest;
mod image;
mod import;
mod inventory;
mod listing;
mod live;
mod locate;
mod manage;
mod marks;
mod meter;
mod monitor;
mod multipart;
mod names;
mod nearby;
mod object_disk;
mod options;
mod oss;
mod oss_answer;
mod oss_endpoint;
mod owner;
mod parts;
mod publish;
mod ram;
mod rate_limiter;
mod reader;
mod refusal;
mod removal;
mod replace;
mod role;
mod same;
mod settings;
mod sharing;
mod sign;
mod snapshots;
mod stale;
mod state;
mod sts;
mod tagging;
mod transfer;
mod upload;
mod verdict;

use std::sync::Arc;

use build_image_plugin_api::{
    Context, Description, Disk, Provider, Result, Settings,
    document::{
        CheckReport, CheckRequest, DiscardRequest, Discarded, DiskRequest, Inventory,
        InventoryRequest, LocateRequest, Located, ManageOutcome, ManageRequest, Purpose,
        RegisterRequest, Registered, UploadRequest, Uploaded,
    },
};

use config::Config;
use credentials::Credentials;

build_image_plugin_api::export_provider!(Alibaba);

/// Overwrites all memory that is freed: a plugin has a separate allocator, and the HTTP client copies tokens
/// into its memory.
#[global_allocator]
static MEMORY: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

/// Alibaba Cloud.
pub struct Alibaba {
    config: Config,
    /// Looked up once for all steps, renewed when they expire.
    credentials: Arc<Credentials>,
}

impl Provider for Alibaba {
    fn describe() -> Description {
        describe::description()
    }

    fn create(context: &Context, settings: Settings) -> Result<Self> {
        let config = Config::read(&settings)?;
        let credentials = Arc::new(Credentials::open(context, &config.identity));
        Ok(Self { config, credentials })
    }

    fn check(&self, context: &Context, request: &CheckRequest) -> Result<CheckReport> {
        if !request.same.is_empty() {
            return same::compare(context, &self.config, &self.credentials, request);
        }
        let mut config = self.config.clone();
        config.keep_object |= request.purpose == Purpose::Upload;
        check::check(context, &config, &self.credentials, request)
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
        let mut config = self.config.clone();
        config.keep_object |= request.stays;
        upload::upload(context, &config, &self.credentials, request)
    }

    fn register(&self, context: &Context, request: &RegisterRequest) -> Result<Registered> {
        publish::register(context, &self.config, &self.credentials, request)
    }

    fn discard(&self, context: &Context, request: &DiscardRequest) -> Result<Discarded> {
        discard::discard(context, &self.config, &self.credentials, request)
    }

    fn inventory(&self, context: &Context, request: &InventoryRequest) -> Result<Inventory> {
        inventory::inventory(context, &self.config, &self.credentials, request)
    }

    fn locate(&self, context: &Context, request: &LocateRequest) -> Result<Located> {
        locate::locate(context, &self.config, &self.credentials, request)
    }

    fn manage(&self, context: &Context, request: &ManageRequest) -> Result<ManageOutcome> {
        manage::manage(context, &self.config, &self.credentials, request)
    }
}
