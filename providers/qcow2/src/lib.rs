//! Publishes the disk as a qcow2 image in IMAGE_DIR. This is the smallest complete provider and the worked example
//! for authors of providers; it uses no cloud and has no settings.
#![forbid(unsafe_code)]

mod describe;

use build_image_plugin_api::{
    Context, Description, Disk, Provider, Result, Settings,
    document::{
        CheckReport, CheckRequest, DiscardRequest, Discarded, DiskRequest, RegisterRequest,
        Registered, UploadRequest, Uploaded,
    },
    export_provider,
    ready::directory,
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
        Ok(CheckReport::default().findings([directory::check(request)]))
    }

    fn create_disk(&self, context: &Context, request: &DiskRequest) -> Result<Disk> {
        let mut spec = request.spec.clone();
        // Inside the ZIP file, the image has the ZIP file's name without its suffix.
        spec.member.clone_from(&request.build.file_stem);
        if !spec.member.ends_with(".qcow2") {
            spec.member.push_str(".qcow2");
        }
        context.make_disk(&spec)
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

export_provider!(Qcow2);
