//! Declares the settings, which are those of the old tool. None is required because builds end before the upload;
//! the script asks for values that it needs and that are not set.

use build_image_plugin_api::{Setting, SettingKind};

pub(crate) fn settings() -> Vec<Setting> {
    use SettingKind::{Integer, Text};
    let row = |key: &str, summary: &str, default: &str| {
        Setting::new(key, Integer, summary).pattern("[0-9]+").default_value(default).hidden()
    };
    vec![
        Setting::new("AZURE_APPLICATION_ID", Text, "Service principal; the script uses `az login`")
            .secret(),
        Setting::new("AZURE_APPLICATION_SECRET", Text, "Secret of the service principal").secret(),
        Setting::new("AZURE_SUBSCRIPTION_ID", Text, "Subscription of the image").secret(),
        Setting::new("AZURE_TENANT_ID", Text, "Tenant of the service principal").secret(),
        Setting::new("AZURE_STORAGE_CONNECTION_STRING", Text, "Connection string of the account")
            .secret(),
        Setting::new("AZURE_STORAGE_CONTAINER_NAME", Text, "Container the disk is uploaded to")
            .pattern(r"\$root|[a-z0-9](-?[a-z0-9]){2,62}"),
        Setting::new("AZURE_REGION", Text, "Region of the image, for example `westeurope`"),
        Setting::new("AZURE_RESOURCE_GROUP", Text, "Resource group of the image")
            .pattern(r"[-\w._()]{1,90}"),
        row("AZURE_BLOB_UPLOAD_COMPLETED_RETRY_COUNT", "Attempts to upload the disk", "20"),
        row("AZURE_BLOB_UPLOAD_COMPLETED_RETRY_DELAY", "Seconds between two attempts", "10"),
        row("AZURE_BLOB_UPLOAD_CONCURRENT_THREAD_COUNT", "Connections of the upload", "8"),
        row("AZURE_BLOB_UPLOAD_TIMEOUT", "Longest time of the upload in seconds", "2400"),
        row("AZURE_DELETE_IMAGE_RETRY_COUNT", "Looks at an image being deleted", "120"),
        row("AZURE_DELETE_IMAGE_RETRY_DELAY", "Seconds between two looks", "5"),
        row("AZURE_IMAGE_NAME_LENGTH_MIN", "Shortest image name", "1"),
        row("AZURE_IMAGE_NAME_LENGTH_MAX", "Longest image name", "80"),
    ]
}
