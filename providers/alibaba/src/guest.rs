//! Determines the attributes of the image that follow from what the host found on the disk, where no setting has them.

use build_image_plugin_api::document::{Build, GuestFacts};

use crate::config::Config;

/// The platform of a guest that ECS leaves alone.
const OTHERS: &str = "Others Linux";
/// IDs of os-release, and the platform of each. Source: parameter `Platform` of `ImportImage`.
const PLATFORMS: [(&str, &str); 18] = [
    ("alinux", "Aliyun"),
    ("almalinux", "AlmaLinux"),
    ("anolis", "Anolis"),
    ("centos", "CentOS"),
    ("debian", "Debian"),
    ("fedora", "Fedora"),
    ("gentoo", "Gentoo"),
    ("kylin", "Kylin"),
    ("opensuse", "OpenSUSE"),
    ("opensuse-leap", "OpenSUSE"),
    ("opensuse-tumbleweed", "OpenSUSE"),
    ("rhel", "RedHat"),
    ("rocky", "Rocky Linux"),
    ("sled", "SUSE"),
    ("sles", "SUSE"),
    ("sles_sap", "SUSE"),
    ("ubuntu", "Ubuntu"),
    ("uos", "UOS"),
];
/// Names of variants that share the ID of another distribution, and the platform of each.
const VARIANTS: [(&str, &str); 2] =
    [("CentOS Stream", "CentOS Stream"), ("Fedora CoreOS", "Fedora CoreOS")];

/// Returns the platform: the setting, or the distribution on the disk. An appliance is left alone: only its own
/// installer knows what may be changed in it.
pub(crate) fn platform(config: &Config, build: &Build) -> String {
    let found = || {
        let facts = build.guest.as_ref().filter(|_| build.product.is_empty())?;
        distribution(facts).map(str::to_owned)
    };
    config.import.platform.clone().or_else(found).unwrap_or_else(|| OTHERS.to_owned())
}

/// Returns whether the guest has NVMe drivers, in the service's terms: the setting, or what was found on the disk.
pub(crate) fn nvme(config: &Config, build: &Build) -> Option<String> {
    let word = |has| if has { "supported" } else { "unsupported" }.to_owned();
    let found = || build.guest.as_ref()?.nvme.map(word);
    config.import.nvme().cloned().or_else(found)
}

fn distribution(facts: &GuestFacts) -> Option<&'static str> {
    let name = facts.os_name.as_deref().unwrap_or_default();
    let variant = VARIANTS.iter().find(|(variant, _)| name.starts_with(variant));
    let of_id = || PLATFORMS.iter().find(|(id, _)| facts.os.as_deref() == Some(*id));
    variant.or_else(of_id).map(|(_, platform)| *platform)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_is_named_as_the_service_names_it() {
        for (os, name, expected) in [
            ("debian", "Debian GNU/Linux 12 (bookworm)", Some("Debian")),
            ("centos", "CentOS Linux 7 (Core)", Some("CentOS")),
            ("centos", "CentOS Stream 9", Some("CentOS Stream")),
            ("fedora", "Fedora CoreOS 41.20250117.3.0", Some("Fedora CoreOS")),
            ("sles", "SUSE Linux Enterprise Server 15 SP6", Some("SUSE")),
            ("alpine", "Alpine Linux v3.20", None),
            ("", "", None),
        ] {
            let facts = GuestFacts::default().os(os).os_name(name);
            assert_eq!(distribution(&facts), expected, "{os} {name}");
        }
    }
}
