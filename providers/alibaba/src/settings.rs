//! Declares the settings: what users can configure, in the words they see in help.
//!
//! Only implemented settings have a row; `config` and `options` define what a value means to the cloud.

use build_image_plugin_api::{Setting, SettingKind};

use crate::{delta, oss_endpoint::PATH_STYLE};

/// All rows.
pub(crate) fn settings() -> Vec<Setting> {
    let mut rows = place();
    rows.extend(endpoints());
    rows.extend(upload());
    rows.extend(delta::settings());
    rows.extend(import());
    rows.extend(images());
    rows.extend(tuning());
    rows
}

fn place() -> Vec<Setting> {
    use SettingKind::{List, Path, Text};
    vec![
        Setting::new(
            "ALIBABA_ACCESS_KEY_ID",
            Text,
            "RAM access key id; unset: from the environment variable ALIBABA_CLOUD_ACCESS_KEY_ID",
        )
        .secret(),
        Setting::new("ALIBABA_ACCESS_KEY_SECRET", Text, "Secret of the RAM access key").secret(),
        Setting::new(
            "ALIBABA_SECURITY_TOKEN",
            Text,
            "Security token of a temporary (STS) access key",
        )
        .secret(),
        Setting::new(
            "ALIBABA_PROFILE",
            Text,
            "Profile of the vendor's command line (`aliyun configure`) whose keys are used",
        ),
        Setting::new(
            "ALIBABA_CONFIG_FILE",
            Path,
            "Configuration file with that profile; unset: ~/.aliyun/config.json",
        ),
        Setting::new(
            "ALIBABA_BUCKET",
            Text,
            "OSS bucket the disk is uploaded to; it must exist and lie in the region",
        )
        .pattern("[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
        .required(),
        Setting::new(
            "ALIBABA_REGION",
            Text,
            "Region of bucket and image, for example `cn-hangzhou`",
        )
        .pattern("[a-z][a-z0-9-]+")
        .required(),
        Setting::new(
            "ALIBABA_IMAGE_SHARE_ACCOUNT_IDS",
            List,
            "Accounts the image is shared with, for example `[1234567890123456]`",
        ),
    ]
}

fn images() -> Vec<Setting> {
    use SettingKind::{List, Text};
    vec![
        Setting::new(
            "ALIBABA_IMAGE_UNSHARE_ACCOUNT_IDS",
            List,
            "Accounts whose share of the image is taken back",
        ),
        Setting::new(
            "ALIBABA_IMAGE_COPY_REGIONS",
            List,
            "Regions the image is copied to, for example `[cn-shanghai, eu-central-1]`",
        ),
        Setting::new(
            "ALIBABA_IMAGE_KEY",
            Text,
            "KMS key that encrypts the image: what was imported is copied with the key in its region, and removed",
        ),
        Setting::new(
            "ALIBABA_IMAGE_COPY_KEYS",
            List,
            "KMS keys that encrypt copies, by region, for example `[cn-shanghai=KEY_ID]`",
        ),
        Setting::new("ALIBABA_IMAGE_FAMILY", Text, "Family the image becomes the newest member of"),
        Setting::new(
            "ALIBABA_IF_EXISTS",
            Text,
            "What to do when an image has the name: `fail`, or `replace` it once the new one is finished",
        )
        .choices(&["fail", "replace"])
        .default_value("fail"),
    ]
}

fn endpoints() -> Vec<Setting> {
    use SettingKind::{Boolean, Text};
    vec![
        Setting::new(
            "ALIBABA_UPLOAD_INTERNAL_OSS_ENDPOINT",
            Boolean,
            "Upload through the region's internal OSS endpoint; only from inside the region",
        ),
        Setting::new(
            "ALIBABA_OSS_ENDPOINT",
            Text,
            "OSS endpoint: `public`, `internal`, `accelerate`, `accelerate-overseas`, `dualstack`, a host or URL; a name outside aliyuncs.com is taken as bound to the bucket",
        ),
        Setting::new(
            PATH_STYLE,
            Boolean,
            "Address buckets as `https://HOST/BUCKET/KEY`, as private clouds do; needs a server in ALIBABA_OSS_ENDPOINT",
        ),
        Setting::new(
            "ALIBABA_ECS_ENDPOINT",
            Text,
            "ECS endpoint to use instead of the region's: host or URL",
        ),
        Setting::new(
            "ALIBABA_STS_ENDPOINT",
            Text,
            "STS endpoint to use instead of the central one: host or URL",
        ),
        Setting::new(
            "ALIBABA_RAM_ENDPOINT",
            Text,
            "RAM endpoint to use instead of the central one: host or URL",
        ),
        Setting::new(
            "ALIBABA_METADATA_ENDPOINT",
            Text,
            "Metadata service of the instance this runs on, or `off`; unset: the vendor's address",
        )
        .hidden(),
    ]
}

fn upload() -> Vec<Setting> {
    use SettingKind::{Boolean, Size, Text};
    vec![
        Setting::new(
            "ALIBABA_OSS_PREFIX",
            Text,
            "What the key of the uploaded object starts with, for example `images/`",
        ),
        Setting::new("ALIBABA_DISK_FORMAT", Text, "Format of the uploaded disk")
            .choices(&["qcow2", "raw", "vhd"])
            .default_value("qcow2"),
        Setting::new(
            "ALIBABA_DISK_COMPRESSION",
            Text,
            "Compression inside a qcow2 disk: fewer bytes to send, more work to make them",
        )
        .choices(&["none", "zlib"])
        .default_value("none"),
        Setting::new(
            "ALIBABA_UPLOAD_PART_SIZE",
            Size,
            "Size of an upload part; grown when the disk would need more than 10000",
        )
        .default_value("16MiB"),
        Setting::new(
            "ALIBABA_UPLOAD_RATE_LIMIT",
            Size,
            "Most bytes per second of the upload, for example `20MiB`; unset or 0: as fast as it goes",
        ),
        Setting::new(
            "ALIBABA_KEEP_OSS_OBJECT",
            Boolean,
            "Keep the uploaded object after the image was registered",
        ),
    ]
}

fn import() -> Vec<Setting> {
    use SettingKind::{Duration, Switch, Text};
    vec![
        Setting::new(
            "ALIBABA_ARCHITECTURE",
            Text,
            "Architecture of the image; unset: that of the disk",
        )
        .choices(&["x86_64", "arm64", "i386"]),
        Setting::new("ALIBABA_BOOT_MODE", Text, "Boot mode of the image; unset: that of the disk")
            .choices(&["BIOS", "UEFI"]),
        Setting::new(
            "ALIBABA_OS_TYPE",
            Text,
            "Operating system named to ECS; unset: that of ALIBABA_PLATFORM, or what was found on the disk",
        )
        .choices(&["linux", "windows"]),
        Setting::new(
            "ALIBABA_PLATFORM",
            Text,
            "Platform (distribution) named to ECS; unset: what was found on the disk, `Other Windows`, or `Others Linux`, which leaves the guest alone",
        ),
        Setting::new("ALIBABA_LICENSE_TYPE", Text, "Licence type of the image")
            .choices(&["Auto", "Aliyun", "BYOL"]),
        Setting::new(
            "ALIBABA_NVME_SUPPORT",
            Text,
            "Whether the guest has NVMe drivers; unset: what was found on the disk",
        )
        .choices(&["supported", "unsupported"]),
        Setting::new("ALIBABA_IMDS_SUPPORT", Text, "Metadata service the instances use")
            .choices(&["v1", "v2"]),
        Setting::new(
            "ALIBABA_DETECTION_STRATEGY",
            Text,
            "Check of the image by ECS after the import",
        )
        .choices(&["Standard"]),
        Setting::new("ALIBABA_RESOURCE_GROUP_ID", Text, "Resource group of the image"),
        Setting::new(
            "ALIBABA_ROLE_NAME",
            Text,
            "RAM role with which ECS reads the bucket; unset: AliyunECSImageImportDefaultRole",
        ),
        Setting::new(
            "ALIBABA_CREATE_ROLE",
            Switch,
            "Create that role with its policy when it is missing, and wait until it is in force",
        ),
        Setting::new(
            "ALIBABA_IMPORT_TIMEOUT",
            Duration,
            "Longest time the import may take; unset: the two monitor settings multiplied (1 h)",
        ),
    ]
}

fn tuning() -> Vec<Setting> {
    use SettingKind::{Duration, Integer};
    let row = |key: &str, kind, summary: &str, default: &str| {
        Setting::new(key, kind, summary).default_value(default).hidden()
    };
    vec![
        row(
            "ALIBABA_THREAD_COUNT",
            Integer,
            "Most parts in flight; the upload starts with 4",
            "32",
        )
        .pattern("[1-9][0-9]*"),
        row(
            "ALIBABA_UPLOAD_FILE_RETRY_COUNT",
            Integer,
            "Attempts for a part before the upload fails",
            "9",
        )
        .pattern("[0-9]+"),
        row(
            "ALIBABA_UPLOAD_FILE_RETRY_DELAY",
            Integer,
            "Longest pause in seconds between two attempts",
            "60",
        )
        .pattern("[0-9]+"),
        row(
            "ALIBABA_UPLOAD_STALL_TIMEOUT",
            Duration,
            "A part without a byte moved for this long is sent again",
            "60",
        ),
        row(
            "ALIBABA_IMAGE_IMPORT_MONITOR_RETRY_COUNT",
            Integer,
            "Polls of the import task; times the delay it is the longest wait",
            "60",
        )
        .pattern("[0-9]+"),
        row(
            "ALIBABA_IMAGE_IMPORT_MONITOR_RETRY_DELAY",
            Integer,
            "Longest pause in seconds between two polls of the import task",
            "60",
        )
        .pattern("[0-9]+"),
        row("ALIBABA_IMAGE_NAME_LENGTH_MIN", Integer, "Shortest image name", "2").pattern("[0-9]+"),
        row("ALIBABA_IMAGE_NAME_LENGTH_MAX", Integer, "Longest image name", "128")
            .pattern("[0-9]+"),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_are_unique_and_carry_the_providers_name() {
        let rows = settings();
        let keys: BTreeSet<&str> = rows.iter().map(|row| row.key.as_str()).collect();
        assert_eq!(keys.len(), rows.len());
        assert!(keys.iter().all(|key| key.starts_with("ALIBABA_")), "{keys:?}");
    }

    #[test]
    fn everything_secret_is_marked_and_nothing_else() {
        let secret: Vec<String> =
            settings().into_iter().filter(|row| row.secret).map(|row| row.key).collect();
        let expected =
            ["ALIBABA_ACCESS_KEY_ID", "ALIBABA_ACCESS_KEY_SECRET", "ALIBABA_SECURITY_TOKEN"];
        assert_eq!(secret, expected);
    }

    #[test]
    fn access_keys_are_not_required_since_the_environment_may_hold_them() {
        let required: Vec<String> =
            settings().into_iter().filter(|row| row.required).map(|row| row.key).collect();
        assert_eq!(required, ["ALIBABA_BUCKET", "ALIBABA_REGION"]);
    }
}
