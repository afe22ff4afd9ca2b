//! Implements the AWS provider of `build-image`: writes a disk into an EBS snapshot, block by block, and registers it as
//! an image (AMI) of EC2.
//!
//! Reading order: the steps below → `check`, `upload`, `publish`, `discard` (implementation of the steps) → `direct`,
//! `transfer`, `reader`, `delta` (EBS direct), `import`, `bucket` (S3) → `ebs`, `ec2`, `s3` (the calls) → `cloud`, `client`, `credentials`
//! (how calls are made).
#![forbid(unsafe_code)]

mod attributes;
mod blocks;
mod bucket;
mod check;
mod check_bucket;
mod check_calls;
mod check_quotas;
mod client;
mod clock;
mod cloud;
mod codes;
mod config;
mod copies;
mod credentials;
mod delta;
mod describe;
mod direct;
mod discard;
mod ebs;
mod ec2;
mod environment;
mod expected;
mod finish;
mod image;
mod import;
mod inventory;
mod limiter;
mod listing;
mod manage;
mod marks;
mod names;
mod owner;
mod package;
mod partition;
mod permissions;
mod publish;
mod reader;
mod refusal;
mod replace;
mod s3;
mod s3_list;
mod s3_removal;
mod same;
mod script;
mod settings;
mod sharing;
mod snapshot;
mod state;
mod sts;
mod transfer;

use std::sync::atomic::{AtomicBool, Ordering};

use build_image_plugin_api::{
    Context, Description, Disk, Provider, Result, Settings,
    document::{
        CheckReport, CheckRequest, DiscardRequest, Discarded, DiskRequest, Inventory,
        InventoryRequest, ManageOutcome, ManageRequest, RegisterRequest, Registered, UploadRequest,
        Uploaded,
    },
    ready::scripted::{Scripted, ScriptedUpload as _},
};

use cloud::{Cloud, Session};
use config::{Config, Way};
use package::Package;

build_image_plugin_api::export_provider!(Aws);

/// Overwrites all memory that is freed: a plugin has a separate allocator, and the HTTP client copies tokens
/// into its memory.
#[global_allocator]
static MEMORY: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

/// AWS.
pub struct Aws {
    config: Config,
    /// The package for IMAGE_DIR, with its script.
    package: Scripted<Package>,
    /// The package alone.
    plain: Package,
    /// Whether an upload follows, so that the package needs no script.
    uploads: AtomicBool,
    session: Session,
}

impl Provider for Aws {
    fn describe() -> Description {
        describe::description()
    }

    fn create(context: &Context, settings: Settings) -> Result<Self> {
        let config = Config::read(&settings)?;
        let plain = Package::create(context, settings.clone())?;
        let package = Scripted::create(context, settings)?;
        let uploads = AtomicBool::new(false);
        Ok(Self { config, package, plain, uploads, session: Session::default() })
    }

    fn check(&self, context: &Context, request: &CheckRequest) -> Result<CheckReport> {
        if !request.same.is_empty() {
            return same::compare(context, &self.config, &self.session, request);
        }
        self.uploads.store(request.online, Ordering::Relaxed);
        check::check(context, self, request)
    }

    fn create_disk(&self, context: &Context, request: &DiskRequest) -> Result<Disk> {
        match (request.for_image_dir, self.uploads.load(Ordering::Relaxed)) {
            (false, _) => context.make_disk(&check::disk(&self.config)),
            (true, false) => self.package.create_disk(context, request),
            (true, true) => context.make_disk(&self.plain.spec(&request.build, &request.spec)?),
        }
    }

    fn upload(&self, context: &Context, request: &UploadRequest) -> Result<Uploaded> {
        context.check_cancelled()?;
        context.block_on(async {
            let cloud = Cloud::open(context, &self.config, &self.session).await?;
            match self.config.way {
                Way::Ebs => direct::upload(context, &cloud, request).await,
                Way::S3 => import::upload(context, &cloud, request).await,
            }
        })
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
