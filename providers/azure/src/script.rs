//! Renders the script that uploads and registers the image.

use build_image_plugin_api::{Archive, BootMode, DiskSpec, document::Build, ready::scripted};

use crate::Azure;

const TEMPLATE: &str = include_str!("upload.sh");

impl Azure {
    /// Returns the script for a file with this format.
    pub(crate) fn render(&self, build: &Build, spec: &DiskSpec, file: &str) -> String {
        let member = match spec.archive {
            Archive::None => String::new(),
            _ => format!("{}.vhd", build.disk_name),
        };
        let tags: Vec<String> =
            build.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        scripted::render(
            TEMPLATE,
            &[
                ("FILE", file),
                ("MEMBER", &member),
                ("IMAGE_NAME", &build.image_name),
                ("TAGS", &tags.join("\n")),
                ("CONTAINER", &self.container),
                ("RESOURCE_GROUP", &self.resource_group),
                ("REGION", &self.region),
                ("THREADS", &self.threads.to_string()),
                ("GENERATION", if build.boot_mode == BootMode::Uefi { "V2" } else { "V1" }),
            ],
        )
    }
}
