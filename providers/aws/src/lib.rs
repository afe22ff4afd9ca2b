//! Implements the AWS provider of `build-image`: writes a disk into an EBS snapshot, block by block, and registers it as
//! an image (AMI) of EC2.
//!
//! Reading order: the steps below → `check`, `upload`, `publish`, `discard` (implementation of the steps) → `direct`,
//! `transfer` (EBS direct), `import`, `bucket` (S3) → `ebs`, `ec2`, `s3` (the calls) → `cloud`, `client`, `credentials`
//! (how calls are made).
#![forbid(unsafe_code)]

mod attributes;
mod blocks;
mod bucket;
mod check;
mod check_bucket;
mod check_calls;
mod client;
mod clock;
mod cloud;
mod codes;
mod config;
mod copies;
mod credentials;
mod describe;
mod direct;
mod discard;
mod ebs;
mod ec2;
mod expected;
mod finish;
mod image;
mod import;
mod limiter;
mod names;
mod owner;
mod package;
mod partition;
mod permissions;
mod publish;
mod refusal;
mod replace;
mod s3;
mod s3_removal;
mod script;
mod settings;
mod sharing;
mod snapshot;
mod state;
mod sts;
mod transfer;

use build_image_plugin_api::{
    Context, Description, Disk, Provider, Result, Settings,
    document::{
        CheckReport, CheckRequest, DiscardRequest, Discarded, DiskRequest, RegisterRequest,
        Registered, UploadRequest, Uploaded,
    },
    ready::scripted::Scripted,
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
    package: Scripted<Package>,
    session: Session,
}

impl Provider for Aws {
    fn describe() -> Description {
        describe::description()
    }

    fn create(context: &Context, settings: Settings) -> Result<Self> {
        let config = Config::read(&settings)?;
        let package = Scripted::create(context, settings)?;
        Ok(Self { config, package, session: Session::default() })
    }

    fn check(&self, context: &Context, request: &CheckRequest) -> Result<CheckReport> {
        check::check(context, self, request)
    }

    fn create_disk(&self, context: &Context, request: &DiskRequest) -> Result<Disk> {
        if request.for_image_dir {
            return self.package.create_disk(context, request);
        }
        context.make_disk(&check::disk(&self.config))
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
}
