//! Microsoft Azure, as a stub: the fixed VHD Azure takes and a script that uploads and registers it.
#![forbid(unsafe_code)]

mod describe;
mod script;
mod settings;

use build_image_plugin_api::{
    Context, Description, Disk, Error, Provider, Result, Settings,
    document::{
        Build, CheckReport, CheckRequest, DiscardRequest, Discarded, DiskRequest, Finding,
        RegisterRequest, Registered, UploadRequest, Uploaded,
    },
    export_provider,
    ready::{
        by_hand::{self, NameLength},
        folder,
    },
};

/// Characters a tag's name must not have. Source: "Use tags to organize your Azure resources".
const NOT_IN_TAGS: &str = r"<>%&\?/";

/// The provider.
pub struct Azure {
    container: String,
    resource_group: String,
    region: String,
    threads: u64,
    name_length: NameLength,
}

impl Azure {
    /// The answer of a step that is done by hand.
    fn refused(&self, step: &str, build: &Build) -> Error {
        let spec = describe::description().disk.package.unwrap_or_default();
        let file = format!("{}.{}", build.file_stem, spec.file_suffix());
        by_hand::refused(step, build, &self.script(build, &spec, &file))
    }
}

/// What is wrong with the tags, beyond lengths and prefixes.
fn wrong_tags(build: &Build) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut wrong = |text: String| {
        let error = Error::config(text).with_hint("change it in IMAGE_TAGS");
        findings.push(Finding::error("tags", &error));
    };
    for (key, value) in &build.tags {
        if let Some(letter) = key.chars().find(|letter| NOT_IN_TAGS.contains(*letter)) {
            wrong(format!("the name of tag `{key}` must not have a `{letter}`"));
        }
        if key.contains(['\n', '=']) || value.contains('\n') {
            wrong(format!("tag `{key}` has a line end, or `=` in its name"));
        }
    }
    findings
}

impl Provider for Azure {
    fn describe() -> Description {
        describe::description()
    }

    fn create(_: &Context, settings: Settings) -> Result<Self> {
        let text = |key: &str| settings.text(key).unwrap_or_default().to_owned();
        Ok(Self {
            container: text("AZURE_STORAGE_CONTAINER_NAME"),
            resource_group: text("AZURE_RESOURCE_GROUP"),
            region: text("AZURE_REGION"),
            threads: settings.integer("AZURE_BLOB_UPLOAD_CONCURRENT_THREAD_COUNT").unwrap_or(8),
            name_length: NameLength::of(&settings, "AZURE")?,
        })
    }

    fn check(&self, _: &Context, request: &CheckRequest) -> Result<CheckReport> {
        let name = self.name_length.check(&request.build);
        let mut findings = vec![by_hand::check(request, "Azure"), name];
        findings.extend(wrong_tags(&request.build));
        Ok(CheckReport { findings, ..CheckReport::default() })
    }

    fn create_disk(&self, context: &Context, request: &DiskRequest) -> Result<Disk> {
        let (build, spec) = (&request.build, &request.spec);
        let disk = context.make_disk(spec)?;
        if request.published {
            by_hand::write(context, build, &self.script(build, spec, &disk.file_name))?;
        }
        Ok(disk)
    }

    fn upload(&self, _: &Context, request: &UploadRequest) -> Result<Uploaded> {
        Err(self.refused("upload", &request.build))
    }

    fn register(&self, _: &Context, request: &RegisterRequest) -> Result<Registered> {
        Err(self.refused("register", &request.build))
    }

    fn discard(&self, context: &Context, request: &DiscardRequest) -> Result<Discarded> {
        folder::remove(context, request)
    }
}

export_provider!(Azure);
