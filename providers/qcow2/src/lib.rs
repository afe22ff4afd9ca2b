//! The smallest real provider: publishes the disk as a qcow2 file in IMAGE_DIR. The worked example for
//! authors of providers; it knows no cloud and needs no settings of its own.
#![forbid(unsafe_code)]

mod describe;
mod discard;
mod publish;

use build_image_plugin_api::{
    Context, Description, Provider, Result, Settings,
    document::{
        CheckReport, CheckRequest, DiscardRequest, Discarded, RegisterRequest, Registered,
        UploadRequest, Uploaded,
    },
    export_provider,
};

/// The provider.
pub struct Qcow2;

impl Provider for Qcow2 {
    fn describe() -> Description {
        describe::description()
    }

    fn create(_: &Context, _: Settings) -> Result<Self> {
        Ok(Self)
    }

    fn check(&self, _: &Context, request: &CheckRequest) -> Result<CheckReport> {
        Ok(publish::check(&request.build))
    }

    fn upload(&self, context: &Context, request: &UploadRequest) -> Result<Uploaded> {
        publish::write(context, request)
    }

    fn register(&self, _: &Context, request: &RegisterRequest) -> Result<Registered> {
        Ok(publish::registered(request))
    }

    fn discard(&self, context: &Context, request: &DiscardRequest) -> Result<Discarded> {
        discard::remove(context, request)
    }
}

export_provider!(Qcow2);
