//! Publishes the disk as a dynamic VHD in IMAGE_DIR. Uses no cloud and has no settings.
#![forbid(unsafe_code)]

mod describe;

use build_image_plugin_api::{
    Context, Description, Provider, Result, Settings,
    document::{
        CheckReport, CheckRequest, DiscardRequest, Discarded, RegisterRequest, Registered,
        UploadRequest, Uploaded,
    },
    export_provider,
    ready::directory,
};

/// The provider.
pub struct Vhd;

impl Provider for Vhd {
    fn describe() -> Description {
        describe::description()
    }

    fn create(_: &Context, _: Settings) -> Result<Self> {
        Ok(Self)
    }

    fn check(&self, _: &Context, request: &CheckRequest) -> Result<CheckReport> {
        Ok(CheckReport::default().findings([directory::check(request)]))
    }

    fn upload(&self, context: &Context, request: &UploadRequest) -> Result<Uploaded> {
        directory::write(context, request)
    }

    fn register(&self, _: &Context, request: &RegisterRequest) -> Result<Registered> {
        Ok(directory::registered(request))
    }

    fn discard(&self, context: &Context, request: &DiscardRequest) -> Result<Discarded> {
        directory::remove(context, request)
    }
}

export_provider!(Vhd);
