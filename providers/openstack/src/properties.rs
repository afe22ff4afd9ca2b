//! Determines the properties of the image: from the settings, and from what is known of the disk.
//!
//! Names: OpenStack documentation, "Useful image properties".

use std::collections::BTreeMap;

use build_image_plugin_api::{
    BootMode, DiskFormat, DiskSpec, Error, Result, Settings,
    document::{Build, GuestFacts},
};
use serde_json::Value;

use crate::{image::RUN, marks};

/// Bytes of a GiB.
const GIB: u64 = 1 << 30;
/// Longest name of a property, in characters.
const NAME_LENGTH: usize = 255;
/// Members of an image that are not properties (`/v2/schemas/image`).
const MEMBERS: [&str; 24] = [
    "id",
    "name",
    "status",
    "visibility",
    "protected",
    "os_hidden",
    "checksum",
    "os_hash_algo",
    "os_hash_value",
    "owner",
    "size",
    "virtual_size",
    "container_format",
    "disk_format",
    "created_at",
    "updated_at",
    "tags",
    "direct_url",
    "min_ram",
    "min_disk",
    "self",
    "file",
    "schema",
    "stores",
];
/// How the names of the service's properties begin.
const SERVICE: &str = "os_glance_";
/// The name of Windows in the facts of a guest, in `os_type`, and in `os_distro`.
const WINDOWS: &str = "windows";
/// Settings that are properties as they are.
const TEXTS: [(&str, &str); 9] = [
    ("OPENSTACK_ARCHITECTURE", "architecture"),
    ("OPENSTACK_FIRMWARE", "hw_firmware_type"),
    ("OPENSTACK_SECURE_BOOT", "os_secure_boot"),
    ("OPENSTACK_MACHINE_TYPE", "hw_machine_type"),
    ("OPENSTACK_DISK_BUS", "hw_disk_bus"),
    ("OPENSTACK_VIF_MODEL", "hw_vif_model"),
    ("OPENSTACK_OS_TYPE", "os_type"),
    ("OPENSTACK_OS_DISTRO", "os_distro"),
    ("OPENSTACK_OS_VERSION", "os_version"),
];

/// Properties that the settings request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    properties: BTreeMap<String, String>,
    min_disk: Option<u64>,
    min_ram: Option<u64>,
}

impl Wanted {
    /// Reads the settings.
    ///
    /// # Errors
    /// Config errors naming the key and the property.
    pub(crate) fn read(settings: &Settings) -> Result<Self> {
        let mut properties = BTreeMap::new();
        for (name, value) in settings.parsed::<BTreeMap<String, Value>>("OPENSTACK_PROPERTIES")? {
            properties.insert(name.clone(), property(&name, &value)?);
        }
        let mut set = |key: &str, name: &str, value: String| match properties
            .insert(name.to_owned(), value)
        {
            None => Ok(()),
            Some(_) => Err(Error::config(format!(
                "property `{name}` is set by `{key}` and by `OPENSTACK_PROPERTIES`"
            ))
            .with_hint("remove it from one of them")),
        };
        for (key, name) in TEXTS {
            if let Some(text) = settings.text(key).filter(|text| !text.is_empty()) {
                set(key, name, text.to_owned())?;
            }
        }
        const AGENT: &str = "OPENSTACK_QEMU_GUEST_AGENT";
        if settings.is_set(AGENT) {
            let word = if settings.boolean(AGENT) { "yes" } else { "no" };
            set(AGENT, "hw_qemu_guest_agent", word.to_owned())?;
        }
        let (min_disk, min_ram) =
            (settings.integer("OPENSTACK_MIN_DISK"), settings.integer("OPENSTACK_MIN_RAM"));
        Ok(Self { properties, min_disk, min_ram })
    }

    /// Returns the properties of the image of a build.
    pub(crate) fn properties(&self, build: &Build, disk: &DiskSpec) -> BTreeMap<String, String> {
        let product = |name: &str| build.product.get(name).cloned().unwrap_or_default();
        let guest = build.guest.clone().unwrap_or_default();
        let (distribution, version) = if product("name").is_empty() {
            (distribution(&guest), guest.os_version.clone().unwrap_or_default())
        } else {
            (product("name").to_lowercase(), product("version"))
        };
        let has_agent = guest.agents.iter().any(|agent| agent == "qemu-guest-agent");
        let known = [
            ("architecture", build.architecture.to_string()),
            ("hw_firmware_type", build.boot_mode.to_string()),
            // Nova configures machines of Windows in another way: local time, enlightenments of Hyper-V.
            ("os_type", if distribution == WINDOWS { WINDOWS } else { "" }.to_owned()),
            ("os_distro", distribution),
            ("os_version", version),
            ("hw_qemu_guest_agent", if has_agent { "yes" } else { "" }.to_owned()),
            ("description", build.description.clone()),
            (
                "vmware_disktype",
                if disk.format == DiskFormat::Vmdk { "streamOptimized" } else { "" }.to_owned(),
            ),
            (RUN, build.run_id.clone()),
        ];
        let known = known.into_iter().filter(|(_, value)| !value.is_empty());
        let mut properties: BTreeMap<String, String> =
            known.map(|(name, value)| (name.to_owned(), value)).collect();
        properties.extend(self.properties.clone());
        properties
    }

    /// Returns the smallest disk of an instance, in GiB: at least the size of the disk unless it is set.
    pub(crate) fn min_disk(&self, virtual_size: u64) -> u64 {
        self.min_disk.unwrap_or_else(|| virtual_size.div_ceil(GIB))
    }

    /// Returns the smallest memory of an instance, in MiB.
    pub(crate) fn min_ram(&self) -> u64 {
        self.min_ram.unwrap_or_default()
    }

    /// Returns what contradicts the disk.
    pub(crate) fn problems(&self, build: &Build, disk: &DiskSpec) -> Vec<Error> {
        let properties = self.properties(build, disk);
        let of = |name: &str| properties.get(name).map(String::as_str);
        let mut problems = Vec::new();
        if of("os_secure_boot") == Some("required") && of("hw_firmware_type") == Some("bios") {
            problems.push(
                Error::config("`OPENSTACK_SECURE_BOOT` is `required`, and the firmware is BIOS")
                    .with_hint("Secure Boot needs UEFI: set OPENSTACK_FIRMWARE=uefi if the disk boots with it, or unset OPENSTACK_SECURE_BOOT"),
            );
        }
        if let (Some(set), false) = (of("hw_firmware_type"), build.boot_mode == BootMode::Unknown)
            && set != build.boot_mode.as_str()
        {
            problems.push(
                Error::config(format!(
                    "`OPENSTACK_FIRMWARE` is `{set}`, and the disk boots with {}",
                    build.boot_mode
                ))
                .with_hint("unset OPENSTACK_FIRMWARE, or set BOOT_MODE to how the disk boots"),
            );
        }
        let size = build.virtual_size.div_ceil(GIB);
        if let Some(min_disk) = self.min_disk.filter(|least| *least < size) {
            problems.push(
                Error::config(format!(
                    "`OPENSTACK_MIN_DISK` is {min_disk} GiB, and the disk has {size} GiB"
                ))
                .with_hint("unset OPENSTACK_MIN_DISK, or set it to at least the size of the disk"),
            );
        }
        problems
    }
}

/// Whether a property decides what machines of an image are like.
pub(crate) fn is_of_machine(name: &str) -> bool {
    let starts = ["hw_", "os_", "img_", "vmware_"].iter().any(|start| name.starts_with(start));
    starts && !MEMBERS.contains(&name) && !name.starts_with(SERVICE)
}

/// Returns the distribution as images of OpenStack name it: the short ID of libosinfo. Those differ from os-release for
/// the family of openSUSE.
fn distribution(guest: &GuestFacts) -> String {
    let id = guest.os.as_deref().unwrap_or_default();
    if id.starts_with("opensuse") { "opensuse" } else { id }.to_owned()
}

fn property(name: &str, value: &Value) -> Result<String> {
    let refuse = |why: &str, hint: &str| {
        Err(Error::config(format!("`OPENSTACK_PROPERTIES` has `{name}`, {why}")).with_hint(hint))
    };
    if name.is_empty() || name.chars().count() > NAME_LENGTH || name.chars().any(char::is_control) {
        return refuse("which is not a name", "write names of 1 to 255 characters");
    }
    if MEMBERS.contains(&name) || name.starts_with(marks::PREFIX) || name.starts_with(SERVICE) {
        return refuse(
            "which is not a property that can be set",
            "use the setting for it, if there is one",
        );
    }
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        _ => refuse("whose value is not a text", "write a text, a number, `true`, or `false`"),
    }
}

/// Returns the image's tags for those of the build: `key=value`, or the key where the value is empty.
pub(crate) fn tags(tags: &BTreeMap<String, String>) -> Vec<String> {
    tags.iter().map(|(key, value)| tag(key, value)).collect()
}

/// Returns a tag as the service stores it.
pub(crate) fn tag(key: &str, value: &str) -> String {
    if value.is_empty() { key.to_owned() } else { format!("{key}={value}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(values: &[(&str, Value)]) -> Result<Wanted> {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        Wanted::read(&Settings::from_values(values))
    }

    fn build() -> Build {
        Build::default()
            .run_id("r-1")
            .architecture("x86_64")
            .boot_mode("bios")
            .virtual_size(3 * GIB + 1)
    }

    #[test]
    fn settings_precede_what_is_known_of_the_disk() {
        let wanted = read(&[
            ("OPENSTACK_ARCHITECTURE", json!("aarch64")),
            ("OPENSTACK_QEMU_GUEST_AGENT", json!(false)),
            ("OPENSTACK_PROPERTIES", json!({"hw_scsi_model": "virtio-scsi", "n": 7, "b": true})),
        ]);
        let wanted = wanted.unwrap();
        let expected = [
            ("architecture", "aarch64"),
            ("b", "true"),
            (RUN, "r-1"),
            ("hw_firmware_type", "bios"),
            ("hw_qemu_guest_agent", "no"),
            ("hw_scsi_model", "virtio-scsi"),
            ("n", "7"),
        ];
        let expected: BTreeMap<String, String> =
            expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(wanted.properties(&build(), &DiskSpec::default()), expected);
        assert_eq!((wanted.min_disk(3 * GIB + 1), wanted.min_ram()), (4, 0));
    }

    #[test]
    fn what_was_found_on_the_disk_fills_what_is_not_set() {
        let guest = |os: &str| {
            let facts = GuestFacts::default().os(os).os_version("12");
            build().guest(facts.agents(["cloud-init", "qemu-guest-agent"]))
        };
        let of = |values: &[(&str, Value)], build: &Build| {
            let all = read(values).unwrap().properties(build, &DiskSpec::default());
            ["os_distro", "os_version", "hw_qemu_guest_agent"]
                .map(|name| all.get(name).cloned().unwrap_or_default())
        };
        assert_eq!(of(&[], &guest("debian")), ["debian", "12", "yes"]);
        assert_eq!(of(&[], &guest("opensuse-leap")), ["opensuse", "12", "yes"]);
        assert_eq!(of(&[], &build()), ["", "", ""]);
        let set = [
            ("OPENSTACK_OS_DISTRO", json!("mine")),
            ("OPENSTACK_QEMU_GUEST_AGENT", json!(false)),
            ("OPENSTACK_PROPERTIES", json!({"os_version": "7"})),
        ];
        assert_eq!(of(&set, &guest("debian")), ["mine", "7", "no"]);
        let product = guest("centos").product([("name", "BIG-IP"), ("version", "17.1.0")]);
        assert_eq!(of(&[], &product), ["big-ip", "17.1.0", "yes"]);
        let os_type = |values: &[(&str, Value)], os: &str| {
            let all = read(values).unwrap().properties(&guest(os), &DiskSpec::default());
            all.get("os_type").cloned().unwrap_or_default()
        };
        assert_eq!(os_type(&[], "windows"), "windows");
        assert_eq!(os_type(&[], "debian"), "");
        assert_eq!(os_type(&[("OPENSTACK_OS_TYPE", json!("linux"))], "windows"), "linux");
    }

    #[test]
    fn properties_that_the_service_or_a_setting_owns_are_refused() {
        for (values, text) in [
            (vec![("OPENSTACK_PROPERTIES", json!({"status": "active"}))], "`status`"),
            (vec![("OPENSTACK_PROPERTIES", json!({RUN: "x"}))], RUN),
            (vec![("OPENSTACK_PROPERTIES", json!({marks::LEASE: "x"}))], marks::LEASE),
            (vec![("OPENSTACK_PROPERTIES", json!({"os_glance_x": "x"}))], "os_glance_x"),
            (vec![("OPENSTACK_PROPERTIES", json!({"a": []}))], "not a text"),
            (
                vec![
                    ("OPENSTACK_PROPERTIES", json!({"os_distro": "x"})),
                    ("OPENSTACK_OS_DISTRO", json!("y")),
                ],
                "`os_distro`",
            ),
        ] {
            let error = read(&values).unwrap_err();
            assert!(error.message.contains(text), "{error}");
        }
    }

    #[test]
    fn what_contradicts_the_disk_is_found() {
        for (values, text) in [
            (("OPENSTACK_SECURE_BOOT", json!("required")), "Secure Boot"),
            (("OPENSTACK_FIRMWARE", json!("uefi")), "BOOT_MODE"),
            (("OPENSTACK_MIN_DISK", json!(3)), "at least"),
        ] {
            let problems = read(&[values]).unwrap().problems(&build(), &DiskSpec::default());
            assert_eq!(problems.len(), 1);
            assert!(problems[0].hint.as_ref().unwrap().contains(text), "{problems:?}");
        }
        assert!(read(&[]).unwrap().problems(&build(), &DiskSpec::default()).is_empty());
    }
}
