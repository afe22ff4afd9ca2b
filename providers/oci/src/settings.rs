//! Declares the settings: what users can configure, in the words they see in help.
//!
//! Only implemented settings have a row; `config` defines what a value means.

use build_image_plugin_api::{Setting, SettingKind};

/// Where settings of the image itself are listed in help.
const IMAGE: &str = "oci image";

/// All rows.
pub(crate) fn settings() -> Vec<Setting> {
    let mut rows = access();
    rows.extend(image());
    rows.extend(tuning());
    rows
}

fn access() -> Vec<Setting> {
    use SettingKind::{Path, Text};
    vec![
        Setting::new(
            "OCI_REFERENCE",
            Text,
            "Registry, repository, and tag, for example `registry.example.com/team/disk:13`; without a tag the image name is the tag",
        )
        .required()
        .explicit_only(),
        Setting::new("OCI_USERNAME", Text, "User name at the registry; unset: the auth files of podman and docker"),
        Setting::new("OCI_PASSWORD", Text, "Password or access token of the user").secret(),
        Setting::new(
            "OCI_AUTH_FILE",
            Path,
            "File with credentials, as `skopeo login --authfile` writes it; unset: REGISTRY_AUTH_FILE, then the files of podman and docker",
        ),
        Setting::new(
            "OCI_TLS",
            Text,
            "`verify`: HTTPS, plain HTTP only to this machine; `insecure`: HTTPS with any certificate; `off`: plain HTTP",
        )
        .choices(&["verify", "insecure", "off"])
        .default_value("verify")
        .explicit_only(),
        Setting::new(
            "OCI_CA_FILE",
            Path,
            "PEM file with the CA certificates of the registry; unset: the system's",
        ),
    ]
}

fn image() -> Vec<Setting> {
    use SettingKind::{List, Map, Text};
    let row = |key: &str, kind, summary: &str| Setting::new(key, kind, summary).group(IMAGE);
    vec![
        row(
            "OCI_KIND",
            Text,
            "`containerdisk`: an image that KubeVirt boots, with the disk at /disk/disk.img; `artifact`: the disk file itself, for `oras pull`",
        )
        .choices(&["containerdisk", "artifact"])
        .default_value("containerdisk"),
        row("OCI_DISK_FORMAT", Text, "Format of the disk: `qcow2` or `raw`").default_value("qcow2"),
        row("OCI_DISK_COMPRESSION", Text, "Compression inside a qcow2 disk")
            .choices(&["none", "zlib"])
            .default_value("none"),
        row("OCI_LAYER_COMPRESSION", Text, "Compression of the layer")
            .choices(&["none", "gzip", "zstd"])
            .default_value("none"),
        row("OCI_TAGS", List, "Further tags of the image, for example `[13, latest]`"),
        row(
            "OCI_IF_EXISTS",
            Text,
            "What to do when a tag belongs to another image: `fail`, or `replace`: move the tag to the new image",
        )
        .choices(&["fail", "replace"])
        .default_value("fail"),
        row(
            "OCI_ANNOTATIONS",
            Map,
            "Annotations of the manifest, for example `{org.opencontainers.image.vendor: Example}`",
        ),
        row(
            "OCI_ARTIFACT_TYPE",
            Text,
            "Type of an artifact; unset: `application/vnd.build-image.disk.v1`",
        ),
        row(
            "OCI_MEDIA_TYPE",
            Text,
            "Media type of the disk in an artifact; unset: that of its format",
        ),
    ]
}

fn tuning() -> Vec<Setting> {
    use SettingKind::{Duration, Integer, Size};
    let row = |key: &str, kind, summary: &str, default: &str| {
        Setting::new(key, kind, summary).default_value(default)
    };
    vec![
        row(
            "OCI_CHUNK_SIZE",
            Size,
            "Bytes per request of an upload; 0: everything in one request, for registries without chunks",
            "32M",
        ),
        row(
            "OCI_UPLOAD_ATTEMPTS",
            Integer,
            "Attempts to send a layer before the upload fails",
            "5",
        )
        .pattern("[1-9][0-9]*")
        .hidden(),
        row(
            "OCI_UPLOAD_STALL_TIMEOUT",
            Duration,
            "A request that moves no byte for this long is repeated",
            "120",
        )
        .hidden(),
        row(
            "OCI_RETRY_TIME",
            Duration,
            "Calls that fail in passing are repeated for at least this long",
            "60",
        )
        .hidden(),
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
        assert!(keys.iter().all(|key| key.starts_with("OCI_")), "{keys:?}");
    }

    #[test]
    fn only_the_password_is_secret_and_only_the_reference_is_required() {
        let rows = settings();
        let keys = |which: fn(&Setting) -> bool| {
            rows.iter().filter(|row| which(row)).map(|row| row.key.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(keys(|row| row.secret), ["OCI_PASSWORD"]);
        assert_eq!(keys(|row| row.required), ["OCI_REFERENCE"]);
    }

    #[test]
    fn the_readme_has_a_row_for_every_setting() {
        let readme = include_str!("../README.md");
        for row in settings() {
            assert!(readme.contains(&format!("| `{}` |", row.key)), "{}", row.key);
        }
    }
}
