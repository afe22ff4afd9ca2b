//! Renders the script that uploads and registers the image.

use build_image_plugin_api::{
    Architecture, Archive, BootMode, DiskSpec, document::Build, ready::scripted,
};
use serde_json::json;

use crate::package::Package;

const TEMPLATE: &str = include_str!("upload.sh");

impl Package {
    /// Returns the script for a file with this format.
    pub(crate) fn render(&self, build: &Build, spec: &DiskSpec, file: &str) -> String {
        let member = match spec.archive {
            Archive::None => String::new(),
            _ => format!("{}.vmdk", build.disk_name),
        };
        let tags: Vec<_> =
            build.tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
        let share = match self.share.as_slice() {
            [] => String::new(),
            ids => {
                let users: Vec<_> = ids.iter().map(|id| json!({"UserId": id})).collect();
                json!({"Add": users}).to_string()
            }
        };
        scripted::render(
            TEMPLATE,
            &[
                ("FILE", file),
                ("MEMBER", &member),
                ("IMAGE_NAME", &build.image_name),
                ("TAGS", &json!(tags).to_string()),
                ("SHARE", &share),
                ("BUCKET", &self.bucket),
                ("REGION", &self.region),
                ("IMPORT_COUNT", &self.import.0.to_string()),
                ("IMPORT_DELAY", &self.import.1.to_string()),
                ("IMAGE_COUNT", &self.image.0.to_string()),
                ("IMAGE_DELAY", &self.image.1.to_string()),
                (
                    "ARCHITECTURE",
                    if build.architecture == Architecture::Aarch64 { "arm64" } else { "x86_64" },
                ),
                (
                    "BOOT_MODE",
                    if build.boot_mode == BootMode::Uefi { "uefi" } else { "legacy-bios" },
                ),
            ],
        )
    }
}
