//! Publishes the disk into IMAGE_DIR and tells what the host answers to a question of a later version.
#![forbid(unsafe_code)]

use std::fs;

use build_image_plugin_api::{
    Context, Description, Error, Provider, Resource, Result, Setting, SettingKind, Settings,
    document::{
        DiscardRequest, Discarded, Image, RegisterRequest, Registered, UploadRequest, Uploaded,
    },
    export_provider,
};

struct Newcomer;

impl Provider for Newcomer {
    fn describe() -> Description {
        let description = Description::new("newcomer", "1.0.0")
            .summary("a provider of another age")
            .setting(Setting::new("NEWCOMER_KEY", SettingKind::Text, "a secret").secret());
        if cfg!(feature = "needs-next") {
            return description.requires_abi("1.2");
        }
        if cfg!(feature = "needs-this") {
            return description.requires_abi("1.1");
        }
        description
    }

    fn create(context: &Context, _: Settings) -> Result<Self> {
        context.secret("NEWCOMER_KEY")?;
        Ok(Self)
    }

    fn upload(&self, context: &Context, request: &UploadRequest) -> Result<Uploaded> {
        let folder = request.build.image_dir.clone().unwrap_or_default();
        let location = format!("{folder}/{}", request.disk.file_name);
        let resource = Resource::new("file", location.clone()).as_deliverable();
        context.will_create(&resource)?;
        let mut file = fs::File::create(&location)
            .map_err(|error| Error::io(format!("cannot create `{location}`"), &error))?;
        let bytes_sent = context.copy_disk(&request.disk, &mut file)?;
        context.created(&resource)?;
        // A task on the provider's own threads, for sanitizers to see.
        context.block_on(async { Ok(()) })?;
        context.save("sent", &bytes_sent)?;
        tracing_is_forwarded();
        Ok(Uploaded::new(location).bytes_sent(bytes_sent))
    }

    fn register(&self, context: &Context, request: &RegisterRequest) -> Result<Registered> {
        let id = request.uploaded.location.clone();
        let image = Image::new(id, &request.build.image_name);
        let answer = context.load::<u64>("rehearsal")?;
        Ok(Registered::default().image(image).fact("rehearsal", answer))
    }

    fn discard(&self, context: &Context, request: &DiscardRequest) -> Result<Discarded> {
        context.discard_each(request, |resource| {
            fs::remove_file(&resource.name)
                .map_err(|error| Error::io("the file cannot be removed", &error))
        })
    }
}

/// A panic that is caught here, and logged by the SDK's hook.
fn tracing_is_forwarded() {
    let caught = std::panic::catch_unwind(|| std::panic::panic_any("on purpose"));
    assert!(caught.is_err());
}

export_provider!(Newcomer);
