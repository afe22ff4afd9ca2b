//! Declares the settings: what users can configure, in the words they see in help.
//!
//! Only implemented settings have a row; `config`, `login`, and `properties` define what a value means to the cloud.

use build_image_plugin_api::{Setting, SettingKind};

/// Where settings of the image itself are listed in help.
const IMAGE: &str = "openstack image";

/// All rows.
pub(crate) fn settings() -> Vec<Setting> {
    let mut rows = access();
    rows.extend(place());
    rows.extend(upload());
    rows.extend(image());
    rows.extend(properties());
    rows.extend(tuning());
    rows
}

fn access() -> Vec<Setting> {
    use SettingKind::{Path, Text};
    vec![
        Setting::new(
            "OPENSTACK_CLOUD",
            Text,
            "Cloud in clouds.yaml; unset: OS_CLOUD, the OS_* variables, or the only cloud of the file",
        ),
        Setting::new(
            "OPENSTACK_CONFIG_FILE",
            Path,
            "The clouds.yaml file; unset: OS_CLIENT_CONFIG_FILE, or the places that openstacksdk searches",
        ),
        Setting::new(
            "OPENSTACK_AUTH_URL",
            Text,
            "URL of the identity service (Keystone v3); when it is set, neither clouds.yaml nor OS_* variables are used",
        ),
        Setting::new("OPENSTACK_USERNAME", Text, "User name"),
        Setting::new("OPENSTACK_PASSWORD", Text, "Password of the user").secret(),
        Setting::new(
            "OPENSTACK_USER_DOMAIN_NAME",
            Text,
            "Domain of the user; unset: the domain with the id `default`",
        ),
        Setting::new("OPENSTACK_PROJECT_NAME", Text, "Project that will own the image, by name"),
        Setting::new("OPENSTACK_PROJECT_ID", Text, "Project that will own the image, by id"),
        Setting::new(
            "OPENSTACK_PROJECT_DOMAIN_NAME",
            Text,
            "Domain of the project; unset: the domain with the id `default`",
        ),
        Setting::new("OPENSTACK_APPLICATION_CREDENTIAL_ID", Text, "Application credential, by id"),
        Setting::new(
            "OPENSTACK_APPLICATION_CREDENTIAL_NAME",
            Text,
            "Application credential, by name; needs the user as well",
        ),
        Setting::new(
            "OPENSTACK_APPLICATION_CREDENTIAL_SECRET",
            Text,
            "Secret of the application credential",
        )
        .secret(),
        Setting::new(
            "OPENSTACK_TOKEN",
            Text,
            "Token to use in place of a password; it cannot be renewed",
        )
        .secret(),
    ]
}

fn place() -> Vec<Setting> {
    use SettingKind::{Path, Text};
    vec![
        Setting::new("OPENSTACK_REGION", Text, "Region whose image service is used"),
        Setting::new(
            "OPENSTACK_INTERFACE",
            Text,
            "Which endpoint of the catalog is used; unset: `public`",
        )
        .choices(&["public", "internal", "admin"]),
        Setting::new(
            "OPENSTACK_CA_FILE",
            Path,
            "PEM file with the CA certificates of the cloud; unset: that of the cloud in clouds.yaml, OS_CACERT, or the system's",
        ),
        Setting::new(
            "OPENSTACK_IMAGE_ENDPOINT",
            Text,
            "URL of the image service, in place of that in the catalog",
        ),
    ]
}

fn upload() -> Vec<Setting> {
    use SettingKind::{Duration, List, Text};
    vec![
        Setting::new("OPENSTACK_DISK_FORMAT", Text, "Format of the image: `qcow2`, `raw`, or `vmdk` (streamOptimized)")
            .default_value("qcow2"),
        Setting::new("OPENSTACK_DISK_COMPRESSION", Text, "Compression inside a qcow2 image")
            .choices(&["none", "zlib"])
            .default_value("none"),
        Setting::new(
            "OPENSTACK_UPLOAD_METHOD",
            Text,
            "How data is sent: `import` (staged, glance-direct), `put` (one stream), or `auto`: import where the service offers it",
        )
        .choices(&["auto", "import", "put"])
        .default_value("auto"),
        Setting::new("OPENSTACK_STORE", Text, "Store that receives the image; unset: the service's default"),
        Setting::new("OPENSTACK_COPY_STORES", List, "Further stores that the image is copied to (copy-image)"),
        Setting::new(
            "OPENSTACK_IMPORT_TIMEOUT",
            Duration,
            "Longest time that the service may take to process the image after the upload",
        )
        .default_value("1h"),
    ]
}

fn image() -> Vec<Setting> {
    use SettingKind::{List, Switch, Text};
    vec![
        Setting::new("OPENSTACK_VISIBILITY", Text, "Who may see the image")
            .choices(&["private", "shared", "community", "public"])
            .default_value("private")
            .group(IMAGE),
        Setting::new(
            "OPENSTACK_MEMBERS",
            List,
            "Ids of projects that the image is shared with; needs OPENSTACK_VISIBILITY=shared",
        )
        .group(IMAGE),
        Setting::new(
            "OPENSTACK_ACCEPT_MEMBERS",
            Switch,
            "Accept the image in the member projects in which the user has a role; needs a password",
        )
        .group(IMAGE),
        Setting::new("OPENSTACK_PROTECTED", Switch, "Protect the image against deletion").group(IMAGE),
        Setting::new("OPENSTACK_HIDDEN", Switch, "Leave the image out of lists").group(IMAGE),
        Setting::new(
            "OPENSTACK_IF_EXISTS",
            Text,
            "What to do with images of the same name in the project: `keep` them, `fail`, `hide` them once the new image is active, or `replace`: hide, then delete them",
        )
        .choices(&["keep", "fail", "hide", "replace"])
        .default_value("keep")
        .group(IMAGE),
    ]
}

fn properties() -> Vec<Setting> {
    use SettingKind::{Boolean, Integer, Map, Text};
    let row = |key: &str, kind, summary: &str| Setting::new(key, kind, summary).group(IMAGE);
    vec![
        row("OPENSTACK_ARCHITECTURE", Text, "Property `architecture`; unset: that of the disk"),
        row("OPENSTACK_FIRMWARE", Text, "Property `hw_firmware_type`; unset: that of the disk")
            .choices(&["bios", "uefi"]),
        row("OPENSTACK_SECURE_BOOT", Text, "Property `os_secure_boot`; needs UEFI")
            .choices(&["optional", "required", "disabled"]),
        row("OPENSTACK_MACHINE_TYPE", Text, "Property `hw_machine_type`, for example `q35`"),
        row("OPENSTACK_DISK_BUS", Text, "Property `hw_disk_bus`, for example `virtio`"),
        row("OPENSTACK_VIF_MODEL", Text, "Property `hw_vif_model`, for example `virtio`"),
        row(
            "OPENSTACK_QEMU_GUEST_AGENT",
            Boolean,
            "Property `hw_qemu_guest_agent`: whether the guest runs the agent; unset: yes if it is on the disk",
        ),
        row(
            "OPENSTACK_OS_TYPE",
            Text,
            "Property `os_type`; unset: `windows` if Windows is on the disk",
        )
        .choices(&["linux", "windows"]),
        row(
            "OPENSTACK_OS_DISTRO",
            Text,
            "Property `os_distro`; unset: the name of an installed product, or the distribution on the disk",
        ),
        row(
            "OPENSTACK_OS_VERSION",
            Text,
            "Property `os_version`; unset: the version of an installed product, or of the distribution",
        ),
        row(
            "OPENSTACK_MIN_DISK",
            Integer,
            "Smallest disk of an instance, in GiB; unset: the size of the disk",
        ),
        row("OPENSTACK_MIN_RAM", Integer, "Smallest memory of an instance, in MiB; unset: 0"),
        row(
            "OPENSTACK_PROPERTIES",
            Map,
            "Further properties, for example `{hw_scsi_model: virtio-scsi}`",
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
            "OPENSTACK_UPLOAD_ATTEMPTS",
            Integer,
            "Attempts to send the disk before the upload fails",
            "5",
        )
        .pattern("[1-9][0-9]*"),
        row(
            "OPENSTACK_UPLOAD_STALL_TIMEOUT",
            Duration,
            "An attempt that moves no byte for this long is repeated",
            "120",
        ),
        row(
            "OPENSTACK_RETRY_TIME",
            Duration,
            "Calls that fail in passing are repeated for at least this long",
            "60",
        ),
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
        assert!(keys.iter().all(|key| key.starts_with("OPENSTACK_")), "{keys:?}");
    }

    #[test]
    fn everything_secret_is_marked_and_nothing_is_required() {
        let rows = settings();
        let secret: Vec<&str> =
            rows.iter().filter(|row| row.secret).map(|row| row.key.as_str()).collect();
        let expected =
            ["OPENSTACK_PASSWORD", "OPENSTACK_APPLICATION_CREDENTIAL_SECRET", "OPENSTACK_TOKEN"];
        assert_eq!(secret, expected);
        // Everything may come from clouds.yaml or the environment.
        assert!(rows.iter().all(|row| !row.required));
    }

    #[test]
    fn the_readme_has_a_row_for_every_setting() {
        let readme = include_str!("../README.md");
        for row in settings() {
            assert!(readme.contains(&format!("| `{}` |", row.key)), "{}", row.key);
        }
    }
}
