//! Declares the settings of an installation.

use build_image_disk::installer::Attributes;
use build_image_plugin_api::{Setting, SettingKind as Kind};

/// Help headings of the engine.
const BUILD: &str = "Build";
const SOURCE: &str = "Source";
const DISK: &str = "Disk";

/// Module set.
pub(crate) const MODULES: &str = "MODULES";
/// Number of install slots.
pub(crate) const BOOT_LOCATIONS: &str = "BOOT_LOCATIONS";
/// Size of the disk, a setting of the engine.
pub(crate) const DISK_SIZE: &str = "DISK_SIZE";
/// Larger volumes.
pub(crate) const UPDATE_LV_SIZES: &str = "UPDATE_LV_SIZES";
/// Consoles of the installed system.
pub(crate) const CONSOLE_DEVICES: &str = "CONSOLE_DEVICES";
/// Whether the boot splash is disabled.
pub(crate) const DISABLE_SPLASH: &str = "DISABLE_SPLASH";
/// Whether the first boot must label the files.
pub(crate) const REQUIRE_RELABEL: &str = "REQUIRE_RELABEL";
/// The hotfix ISO.
pub(crate) const EHF_ISO: &str = "EHF_ISO";
/// Its signature.
pub(crate) const EHF_ISO_SIG: &str = "EHF_ISO_SIG";
/// Its SHA-256.
pub(crate) const EHF_ISO_SHA256: &str = "EHF_ISO_SHA256";

fn row(group: &str, key: &str, kind: Kind, summary: &str) -> Setting {
    Setting::new(key, kind, summary).group(group)
}

/// Returns the settings with their attributes.
#[must_use]
pub fn rows() -> Vec<(Setting, Attributes)> {
    [shape(), guest(), hotfix()].concat()
}

/// Declares what is installed.
fn shape() -> Vec<(Setting, Attributes)> {
    let after = Attributes::after;
    vec![
        (
            row(BUILD, MODULES, Kind::Text, "module set of a BIG-IP image")
                .choices(&["all", "ltm"]),
            after("CONFIG_FILE").flag('m').decides().shared(),
        ),
        (
            row(BUILD, BOOT_LOCATIONS, Kind::Text, "number of install slots of a BIG-IP image")
                .choices(&["1", "2"]),
            after(MODULES).flag('b').decides().shared(),
        ),
    ]
}

/// Declares what the installed system looks like.
fn guest() -> Vec<(Setting, Attributes)> {
    let after = Attributes::after;
    vec![
        (
            row(DISK, UPDATE_LV_SIZES, Kind::Map, "larger volumes: a map of volume to MiB"),
            after("DOWNLOAD_TIMEOUT").example("{var: 1500}").decides(),
        ),
        (
            row(
                DISK,
                crate::injected::KEY,
                Kind::List,
                "files to put into the image: source, destination, mode",
            ),
            after(UPDATE_LV_SIZES)
                .example("[{source: a.conf, destination: /config/a.conf}]")
                .decides()
                .names_files(),
        ),
        (
            row(
                DISK,
                CONSOLE_DEVICES,
                Kind::List,
                "consoles of the installed system; ttyS0 is added last",
            ),
            after(crate::injected::KEY).example("[ttyS1, tty1]").decides(),
        ),
        (
            row(DISK, DISABLE_SPLASH, Kind::Switch, "no boot splash in the installed system"),
            after(CONSOLE_DEVICES).decides(),
        ),
        (
            row(
                DISK,
                REQUIRE_RELABEL,
                Kind::Switch,
                "fail when the first boot does not print that it labels the files (SELinux)",
            ),
            after("ACCEL").prefixed_only().decides(),
        ),
    ]
}

/// Declares what is installed on top, and what ISOs are not changed by.
fn hotfix() -> Vec<(Setting, Attributes)> {
    let after = Attributes::after;
    vec![
        (
            row(SOURCE, EHF_ISO, Kind::Path, "engineering hotfix ISO, installed on top of the ISO"),
            after("ISO_SHA256").flag('e').decides(),
        ),
        (
            row(SOURCE, EHF_ISO_SIG, Kind::Path, "signature of the hotfix ISO"),
            after(EHF_ISO).flag('x').until_registered(),
        ),
        (
            row(SOURCE, EHF_ISO_SHA256, Kind::Text, "SHA-256 the hotfix ISO must have")
                .pattern("[0-9a-fA-F]{64}"),
            after(EHF_ISO_SIG).prefixed_only().until_registered(),
        ),
        (
            row(SOURCE, "UPDATE_ISO_RPMS", Kind::Text, "packages to change in the ISO"),
            after("DOWNLOAD_TIMEOUT").unsupported("ISOs are installed as they are"),
        ),
    ]
}
