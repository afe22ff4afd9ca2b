//! Determines the attributes of the image that follow from what the host found on the disk, where no setting has them.

use build_image_plugin_api::{
    Error,
    document::{Build, Finding, GuestFacts},
};

use crate::{
    config::Config,
    options::{DETECTION, LICENCE},
};

/// An operating system, in the service's terms. Source: parameter `OSType` of `ImportImage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OsType {
    Linux,
    Windows,
}

impl OsType {
    /// Returns the word of the setting and of the service.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Windows => "windows",
        }
    }

    /// Parses the word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Linux, Self::Windows].into_iter().find(|one| one.word() == word)
    }

    /// Returns the system of a platform: `Windows Server 2022`, `Other Windows`.
    fn of_platform(platform: &str) -> Self {
        if platform.contains("Windows") { Self::Windows } else { Self::Linux }
    }
}

/// The platform of a guest that ECS leaves alone.
const OTHERS: &str = "Others Linux";
/// The platform of a Windows whose product is not known.
const OTHER_WINDOWS: &str = "Other Windows";
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

/// Returns the operating system: the setting, that of the platform in the settings, or what was found on the disk.
pub(crate) fn os_type(config: &Config, build: &Build) -> OsType {
    let named = || config.import.platform.as_deref().map(OsType::of_platform);
    let found = || {
        let facts = build.guest.as_ref().filter(|_| build.product.is_empty());
        let is_windows = facts.is_some_and(|facts| facts.os.as_deref() == Some("windows"));
        if is_windows { OsType::Windows } else { OsType::Linux }
    };
    config.import.os_type.or_else(named).unwrap_or_else(found)
}

/// Returns what contradicts the operating system: the platform, and the image check, which ECS refuses for Windows
/// (`ImageCheckUnsupported.WindowsImage`).
pub(crate) fn problems(config: &Config, build: &Build) -> Vec<Error> {
    let (import, os_type) = (&config.import, os_type(config, build));
    let mut problems = Vec::new();
    if let Some(platform) = &import.platform
        && OsType::of_platform(platform) != os_type
    {
        let message = format!("platform `{platform}` is not of a {} system", os_type.word());
        let hint = "set ALIBABA_PLATFORM and ALIBABA_OS_TYPE to what is on the disk";
        problems.push(Error::config(message).with_hint(hint));
    }
    if os_type == OsType::Windows && import.extra.iter().any(|(name, _)| *name == DETECTION) {
        let message = "ECS does not check images of Windows after the import";
        problems.push(Error::config(message).with_hint("leave ALIBABA_DETECTION_STRATEGY out"));
    }
    problems
}

/// Returns a warning when the vendor's licence is requested and the platform does not name the product it is for.
pub(crate) fn licence_warning(config: &Config, build: &Build) -> Option<Finding> {
    let is_vendors =
        config.import.extra.iter().any(|(name, value)| *name == LICENCE && value == "Aliyun");
    let is_unnamed = platform(config, build) == OTHER_WINDOWS;
    (is_vendors && is_unnamed && os_type(config, build) == OsType::Windows).then(|| {
        Finding::warning(
            "licence",
            format!("the vendor's licence depends on the platform, and `{OTHER_WINDOWS}` names no product"),
            "set ALIBABA_PLATFORM, for example to `Windows Server 2022`, or ALIBABA_LICENSE_TYPE=BYOL",
        )
    })
}

/// Returns the platform: the setting, or the distribution on the disk. An appliance is left alone: only its own
/// installer knows what may be changed in it.
pub(crate) fn platform(config: &Config, build: &Build) -> String {
    if config.import.platform.is_none() && os_type(config, build) == OsType::Windows {
        return OTHER_WINDOWS.to_owned();
    }
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
    use build_image_plugin_api::Settings;
    use serde_json::json;

    use super::*;

    /// Settings, the system on the disk, the system and the platform that are named, and what contradicts them.
    type Case = (
        &'static [(&'static str, &'static str)],
        &'static str,
        &'static str,
        &'static str,
        &'static str,
    );

    #[test]
    fn windows_follows_from_the_settings_or_from_the_disk() {
        const SERVER: &str = "Windows Server 2022";
        let cases: [Case; 11] = [
            (&[], "windows", "windows", "Other Windows", ""),
            (&[], "debian", "linux", "Debian", ""),
            (&[], "", "linux", "Others Linux", ""),
            (&[("ALIBABA_OS_TYPE", "windows")], "", "windows", "Other Windows", ""),
            (&[("ALIBABA_OS_TYPE", "linux")], "windows", "linux", "Others Linux", ""),
            (&[("ALIBABA_PLATFORM", SERVER)], "", "windows", SERVER, ""),
            (&[("ALIBABA_PLATFORM", "Ubuntu")], "windows", "linux", "Ubuntu", ""),
            (
                &[("ALIBABA_PLATFORM", "Ubuntu"), ("ALIBABA_OS_TYPE", "windows")],
                "",
                "windows",
                "Ubuntu",
                "is not of a windows system",
            ),
            (
                &[("ALIBABA_PLATFORM", SERVER), ("ALIBABA_OS_TYPE", "linux")],
                "",
                "linux",
                SERVER,
                "is not of a linux system",
            ),
            (
                &[("ALIBABA_DETECTION_STRATEGY", "Standard")],
                "windows",
                "windows",
                "Other Windows",
                "does not check images of Windows",
            ),
            (&[("ALIBABA_DETECTION_STRATEGY", "Standard")], "debian", "linux", "Debian", ""),
        ];
        for (values, os, expected, named, problem) in cases {
            let values = values.iter().map(|(key, value)| ((*key).to_owned(), json!(value)));
            let config = Config::read(&Settings::from_values(values.collect())).unwrap();
            let build = Build::default().guest(GuestFacts::default().os(os));
            assert_eq!(os_type(&config, &build).word(), expected, "{config:?} {os}");
            assert_eq!(platform(&config, &build), named, "{config:?} {os}");
            let found = problems(&config, &build);
            assert_eq!(found.len(), usize::from(!problem.is_empty()), "{found:?}");
            assert!(found.iter().all(|error| error.message.contains(problem)), "{found:?}");
        }
    }

    #[test]
    fn the_vendors_licence_needs_the_name_of_the_product() {
        for (licence, platform, os, warned) in [
            ("Aliyun", "", "windows", true),
            ("Aliyun", "Windows Server 2019", "windows", false),
            ("BYOL", "", "windows", false),
            ("Aliyun", "", "debian", false),
        ] {
            let values = [("ALIBABA_LICENSE_TYPE", licence), ("ALIBABA_PLATFORM", platform)];
            let values = values.map(|(key, value)| (key.to_owned(), json!(value)));
            let config = Config::read(&Settings::from_values(values.into())).unwrap();
            let build = Build::default().guest(GuestFacts::default().os(os));
            assert_eq!(licence_warning(&config, &build).is_some(), warned, "{licence} {platform}");
        }
    }

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
