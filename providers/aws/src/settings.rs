//! Declares the settings, which are those of the old tool. None is required because builds end before the upload;
//! the script asks for values that it needs and that are not set.

use build_image_plugin_api::{Setting, SettingKind};

/// Licence text inside the OVF package.
pub(crate) const EULA: &str = "ADD_OVA_EULA";
/// Accounts that the image is shared with.
pub(crate) const SHARE: &str = "AWS_IMAGE_SHARE_ACCOUNT_IDS";

pub(crate) fn settings() -> Vec<Setting> {
    use SettingKind::{Integer, List, Path, Text};
    let row = |key: &str, summary: &str, default: &str| {
        Setting::new(key, Integer, summary).pattern("[0-9]+").default_value(default).hidden()
    };
    vec![
        Setting::new("AWS_ACCESS_KEY_ID", Text, "Access key id; the script takes its own").secret(),
        Setting::new("AWS_SECRET_ACCESS_KEY", Text, "Secret of the access key").secret(),
        Setting::new("AWS_SESSION_TOKEN", Text, "Token of temporary credentials").secret(),
        Setting::new("AWS_BUCKET", Text, "S3 bucket the disk is uploaded to")
            .pattern("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
        Setting::new("AWS_REGION", Text, "Region of bucket and image, for example `eu-central-1`")
            .pattern("[a-z]{2,}(-[a-z]+)+-[0-9]+"),
        Setting::new(
            SHARE,
            List,
            "Accounts the image is shared with, for example `[123456789012]`",
        ),
        Setting::new(EULA, Path, "Text file with a licence, put into the package"),
        row("AWS_IMPORT_SNAPSHOT_TASK_RETRY_COUNT", "Looks at the import before giving up", "120"),
        row("AWS_IMPORT_SNAPSHOT_TASK_RETRY_DELAY", "Seconds between two looks", "30"),
        row("AWS_CREATE_IMAGE_RETRY_COUNT", "Looks at the image before giving up", "40"),
        row("AWS_CREATE_IMAGE_RETRY_DELAY", "Seconds between two looks", "30"),
        row("AWS_IMAGE_NAME_LENGTH_MIN", "Shortest image name", "3"),
        row("AWS_IMAGE_NAME_LENGTH_MAX", "Longest image name", "64"),
    ]
}
