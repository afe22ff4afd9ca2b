//! Declares the settings: what users can configure, in the words they see in help. Those of the old tool keep their
//! names; variables of the vendor's tools keep their meaning.

use build_image_plugin_api::{Setting, SettingKind};

/// Licence text inside the OVF package.
pub(crate) const EULA: &str = "ADD_OVA_EULA";
/// Accounts that the image is shared with.
pub(crate) const SHARE: &str = "AWS_IMAGE_SHARE_ACCOUNT_IDS";
/// Organizations that the image is shared with.
pub(crate) const SHARE_ORGANIZATIONS: &str = "AWS_IMAGE_SHARE_ORGANIZATION_ARNS";
/// Organizational units that the image is shared with.
pub(crate) const SHARE_UNITS: &str = "AWS_IMAGE_SHARE_OU_ARNS";
/// Regions that the image is copied to.
pub(crate) const COPIES: &str = "AWS_IMAGE_COPY_REGIONS";
/// KMS keys of the copies.
pub(crate) const COPY_KEYS: &str = "AWS_IMAGE_COPY_KMS_KEY_IDS";
/// Where settings of the image itself are listed in help.
const IMAGE: &str = "aws image";

/// All rows.
pub(crate) fn settings() -> Vec<Setting> {
    let mut rows = access();
    rows.extend(upload());
    rows.extend(crate::delta::settings());
    rows.extend(image());
    rows.extend(publication());
    rows.extend(tuning());
    rows
}

fn access() -> Vec<Setting> {
    use SettingKind::{List, Path, Text};
    vec![
        Setting::new(
            "AWS_ACCESS_KEY_ID",
            Text,
            "Access key id; unset: the vendor's chain (profile, SSO, web identity, container, instance)",
        )
        .secret(),
        Setting::new("AWS_SECRET_ACCESS_KEY", Text, "Secret of the access key").secret(),
        Setting::new("AWS_SESSION_TOKEN", Text, "Token of temporary credentials").secret(),
        Setting::new(
            "AWS_PROFILE",
            Text,
            "Profile of the vendor's configuration files whose credentials, region, and endpoints are used",
        ),
        Setting::new("AWS_BUCKET", Text, "S3 bucket the disk is uploaded to with AWS_UPLOAD=s3")
            .pattern("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
        Setting::new(
            "AWS_REGION",
            Text,
            "Region of bucket and image, for example `eu-central-1`; unset: AWS_DEFAULT_REGION, or that of the profile",
        )
        .pattern("[a-z]{2,}(-[a-z]+)+-[0-9]+"),
        Setting::new(
            SHARE,
            List,
            "Accounts the image is shared with, for example `[123456789012]`",
        ),
        Setting::new(EULA, Path, "Text file with a licence, put into the package"),
    ]
}

fn upload() -> Vec<Setting> {
    use SettingKind::{Boolean, Duration, Path, Text};
    let endpoint = |id: &str| {
        let key = format!("AWS_ENDPOINT_URL_{id}");
        Setting::new(&key, Text, &format!("URL of {id} instead of the vendor's")).hidden()
    };
    vec![
        Setting::new(
            "AWS_UPLOAD",
            Text,
            "How the disk is uploaded: `ebs` writes a snapshot directly, `s3` imports one from a bucket",
        )
        .choices(&["ebs", "s3"])
        .default_value("ebs"),
        Setting::new("AWS_ENCRYPTED", Boolean, "Encrypt the snapshot, with AWS_KMS_KEY_ID or the account's default key"),
        Setting::new("AWS_KMS_KEY_ID", Text, "KMS key (ARN) that encrypts the snapshot; implies AWS_ENCRYPTED"),
        Setting::new(
            "AWS_SNAPSHOT_TIMEOUT",
            Duration,
            "Time without a block after which the vendor gives up an unfinished snapshot, 10m to 72h",
        )
        .default_value("24h"),
        Setting::new(
            "AWS_S3_PREFIX",
            Text,
            "What the key of the uploaded object starts with, for example `images/`",
        ),
        Setting::new("AWS_KEEP_S3_OBJECT", Boolean, "Keep the uploaded object after the import"),
        Setting::new("AWS_IMPORT_ROLE_NAME", Text, "Service role with which EC2 reads the bucket")
            .default_value("vmimport"),
        Setting::new("AWS_ENDPOINT_URL", Text, "URL of every service instead of the vendor's"),
        endpoint("EC2"),
        endpoint("EBS"),
        endpoint("S3"),
        endpoint("STS"),
        endpoint("KMS"),
        endpoint("IAM"),
        endpoint("SERVICE_QUOTAS"),
        Setting::new(
            "AWS_CA_BUNDLE",
            Path,
            "PEM file with CA certificates instead of the system's",
        ),
    ]
}

fn image() -> Vec<Setting> {
    use SettingKind::{Boolean, Size, Text};
    let row = |key: &str, kind, summary: &str| Setting::new(key, kind, summary).group(IMAGE);
    vec![
        row("AWS_ARCHITECTURE", Text, "Architecture of the image; unset: that of the disk")
            .choices(&["x86_64", "arm64"]),
        row(
            "AWS_BOOT_MODE",
            Text,
            "Boot mode of the image; unset: what the disk can be started with",
        )
        .choices(&["uefi", "uefi-preferred", "legacy-bios"]),
        row(
            "AWS_ENA_SUPPORT",
            Boolean,
            "Whether the guest has the driver of enhanced networking (ENA)",
        )
        .default_value("yes"),
        row(
            "AWS_SRIOV_NET_SUPPORT",
            Text,
            "Enhanced networking with the Intel 82599 interface, for older instance types",
        )
        .choices(&["simple", "none"])
        .default_value("simple"),
        row(
            "AWS_IMDS_SUPPORT",
            Text,
            "`v2.0`: instances use the metadata service with tokens only",
        )
        .choices(&["v2.0"]),
        row("AWS_TPM_SUPPORT", Text, "`v2.0`: instances have a TPM; needs a boot mode with UEFI")
            .choices(&["v2.0"]),
        row("AWS_ROOT_DEVICE_NAME", Text, "Name of the root device")
            .pattern("/dev/[a-z0-9]+")
            .default_value("/dev/xvda"),
        row("AWS_VOLUME_TYPE", Text, "Type of the root volume")
            .choices(&["gp2", "gp3", "io1", "io2", "standard"])
            .default_value("gp2"),
        row(
            "AWS_VOLUME_IOPS",
            SettingKind::Integer,
            "IOPS of a root volume of type gp3, io1, or io2; needed for the last two",
        ),
        row("AWS_VOLUME_SIZE", Size, "Size of the root volume; unset: that of the disk"),
        row("AWS_DELETE_ON_TERMINATION", Boolean, "Whether the root volume ends with its instance")
            .default_value("yes"),
    ]
}

fn publication() -> Vec<Setting> {
    use SettingKind::{Duration, List, Map, Text};
    let row = |key: &str, kind, summary: &str| Setting::new(key, kind, summary).group(IMAGE);
    vec![
        row(
            "AWS_IF_EXISTS",
            Text,
            "What to do when an image has the name: `fail`, or `replace` it",
        )
        .choices(&["fail", "replace"])
        .default_value("fail"),
        row(SHARE_ORGANIZATIONS, List, "ARNs of organizations the image is shared with"),
        row(SHARE_UNITS, List, "ARNs of organizational units the image is shared with"),
        row("AWS_IMAGE_VISIBILITY", Text, "`public`: every account may use the image")
            .choices(&["private", "public"])
            .default_value("private"),
        row(COPIES, List, "Regions the image is copied to, for example `[eu-west-1, us-east-1]`"),
        row(
            COPY_KEYS,
            Map,
            "KMS key of the copy per region, for example `{eu-west-1: alias/images}`",
        ),
        row(
            "AWS_DEPRECATE_AFTER",
            Duration,
            "Age at which the image is deprecated, for example `730d`",
        ),
    ]
}

fn tuning() -> Vec<Setting> {
    let row = |key: &str, summary: &str, default: &str| {
        Setting::new(key, SettingKind::Integer, summary)
            .pattern("[0-9]+")
            .default_value(default)
            .hidden()
    };
    vec![
        row("AWS_UPLOAD_CONCURRENCY", "Most blocks or parts in flight", "32")
            .pattern("[1-9][0-9]{0,2}"),
        row("AWS_IMPORT_SNAPSHOT_TASK_RETRY_COUNT", "Looks at the import before giving up", "120"),
        row("AWS_IMPORT_SNAPSHOT_TASK_RETRY_DELAY", "Seconds between two looks", "30"),
        row("AWS_CREATE_IMAGE_RETRY_COUNT", "Looks at the image before giving up", "40"),
        row("AWS_CREATE_IMAGE_RETRY_DELAY", "Seconds between two looks", "30"),
        row("AWS_IMAGE_NAME_LENGTH_MIN", "Shortest image name", "3"),
        row("AWS_IMAGE_NAME_LENGTH_MAX", "Longest image name", "64"),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_are_unique_and_everything_secret_is_marked_and_nothing_else() {
        let rows = settings();
        let keys: BTreeSet<&str> = rows.iter().map(|row| row.key.as_str()).collect();
        assert_eq!(keys.len(), rows.len());
        let secret: Vec<&str> =
            rows.iter().filter(|row| row.secret).map(|row| row.key.as_str()).collect();
        assert_eq!(secret, ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]);
        assert!(rows.iter().all(|row| !row.required), "the vendor's chain may have every value");
    }
}
