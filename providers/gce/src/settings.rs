//! Declares the settings, which are those of the old tool. None is required because builds end before the upload;
//! the script asks for values that it needs and that are not set.

use build_image_plugin_api::{Setting, SettingKind};

/// Credentials, from which the script needs the project.
pub(crate) const CREDENTIALS: &str = "GOOGLE_APPLICATION_CREDENTIALS";

pub(crate) fn settings() -> Vec<Setting> {
    use SettingKind::{Integer, Text};
    let row = |key: &str, summary: &str, default: &str| {
        Setting::new(key, Integer, summary).pattern("[0-9]+").default_value(default).hidden()
    };
    vec![
        Setting::new("GCE_BUCKET", Text, "Cloud Storage bucket the disk is uploaded to")
            .pattern("[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"),
        Setting::new(
            CREDENTIALS,
            Text,
            "Credentials in JSON, or the path of a `.json` file with them; names the project",
        )
        .secret(),
        row("GCE_IMAGE_CREATE_COMPLETED_RETRY_COUNT", "Looks at the image being made", "90"),
        row("GCE_IMAGE_CREATE_COMPLETED_RETRY_DELAY", "Seconds between two looks", "20"),
        row("GCE_IMAGE_DELETE_COMPLETED_RETRY_COUNT", "Looks at an image being deleted", "20"),
        row("GCE_IMAGE_DELETE_COMPLETED_RETRY_DELAY", "Seconds between two looks", "10"),
        row("GCE_IMAGE_NAME_LENGTH_MIN", "Shortest image name", "1"),
        row("GCE_IMAGE_NAME_LENGTH_MAX", "Longest image name", "63"),
    ]
}
