//! Implements the stub provider for Microsoft Azure: makes the fixed VHD that Azure accepts, and a script that
//! uploads and registers it.
#![forbid(unsafe_code)]

mod describe;
mod script;
mod settings;

use build_image_plugin_api::{
    Context, Description, DiskSpec, Error, Result, Settings,
    document::{Build, Finding},
    export_provider,
    ready::scripted::{NameLength, Scripted, ScriptedUpload},
};

/// Characters that are not allowed in a tag's name. Source: "Use tags to organize your Azure resources".
const NOT_IN_TAGS: &str = r"<>%&\?/";

/// The provider.
pub struct Azure {
    container: String,
    resource_group: String,
    region: String,
    threads: u64,
    name_length: NameLength,
}

/// Returns problems with the tags, beyond lengths and prefixes.
fn invalid_tags(build: &Build) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add_finding = |text: String| {
        let error = Error::config(text).with_hint("change it in IMAGE_TAGS");
        findings.push(Finding::error("tags", &error));
    };
    for (key, value) in &build.tags {
        if let Some(letter) = key.chars().find(|letter| NOT_IN_TAGS.contains(*letter)) {
            add_finding(format!("the name of tag `{key}` must not have a `{letter}`"));
        }
        if key.contains(['\n', '=']) || value.contains('\n') {
            add_finding(format!("tag `{key}` has a line end, or `=` in its name"));
        }
    }
    findings
}

impl ScriptedUpload for Azure {
    const CLOUD: &'static str = "Azure";

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

    fn findings(&self, build: &Build) -> Vec<Finding> {
        let mut findings = vec![self.name_length.check(build)];
        findings.extend(invalid_tags(build));
        findings
    }

    fn script(&self, build: &Build, spec: &DiskSpec, file: &str) -> String {
        self.render(build, spec, file)
    }
}

export_provider!(Scripted<Azure>);
