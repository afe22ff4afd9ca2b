//! Declares the settings of the BIG-IP installer, which are listed between those of the core.

use build_image_plugin_api::{Setting, SettingKind as Kind};

use super::{
    row::{AppliesTo, OnResume, Row, Use},
    schema::{BUILD, DISK, SHA256, SOURCE},
};

/// Creates a row that only an installation uses, and that a resumed run must keep.
fn row(after: &'static str, group: &str, key: &str, kind: Kind, summary: &str) -> Row {
    Row::new(Setting::new(key, kind, summary).group(group))
        .after(after)
        .on_resume(OnResume::Fixed)
        .applies_to(AppliesTo::Installation { expected: false })
}

/// Returns the rows.
pub(super) fn rows() -> Vec<Row> {
    [shape(), hotfix(), content()].concat()
}

fn shape() -> Vec<Row> {
    let expected = AppliesTo::Installation { expected: true };
    vec![
        row("CONFIG_FILE", BUILD, "MODULES", Kind::Text, "module set of a BIG-IP image")
            .flag('m')
            .choices(&["all", "ltm"])
            .applies_to(expected),
        row(
            "MODULES",
            BUILD,
            "BOOT_LOCATIONS",
            Kind::Text,
            "number of install slots of a BIG-IP image",
        )
        .flag('b')
        .choices(&["1", "2"])
        .applies_to(expected),
    ]
}

fn hotfix() -> Vec<Row> {
    vec![
        row(
            "ISO_SHA256",
            SOURCE,
            "EHF_ISO",
            Kind::Path,
            "engineering hotfix ISO, installed on top of the ISO",
        )
        .flag('e'),
        row("EHF_ISO", SOURCE, "EHF_ISO_SIG", Kind::Path, "signature of the hotfix ISO")
            .flag('x')
            .on_resume(OnResume::UntilRegistered),
        row(
            "EHF_ISO_SIG",
            SOURCE,
            "EHF_ISO_SHA256",
            Kind::Text,
            "SHA-256 the hotfix ISO must have",
        )
        .prefixed_only()
        .pattern(SHA256)
        .on_resume(OnResume::UntilRegistered),
        row(
            "DOWNLOAD_TIMEOUT",
            SOURCE,
            "UPDATE_ISO_RPMS",
            Kind::Text,
            "packages to change in the ISO",
        )
        .unsupported("ISOs are installed as they are")
        .on_resume(OnResume::Free)
        .applies_to(AppliesTo::Every),
    ]
}

fn content() -> Vec<Row> {
    vec![
        row(
            "UPDATE_ISO_RPMS",
            DISK,
            "UPDATE_LV_SIZES",
            Kind::Map,
            "larger volumes: a map of volume to MiB",
        )
        .example("{var: 1500}"),
        row(
            "UPDATE_LV_SIZES",
            DISK,
            "UPDATE_IMAGE_FILES",
            Kind::List,
            "files to put into the image: source, destination, mode",
        )
        .used_by(&[Use::Report])
        .example("[{source: a.conf, destination: /config/a.conf}]"),
        row(
            "UPDATE_IMAGE_FILES",
            DISK,
            "CONSOLE_DEVICES",
            Kind::List,
            "consoles of the installed system; ttyS0 is added last",
        )
        .example("[ttyS1, tty1]"),
        row(
            "CONSOLE_DEVICES",
            DISK,
            "DISABLE_SPLASH",
            Kind::Switch,
            "no boot splash in the installed system",
        ),
        row(
            "ACCEL",
            DISK,
            "REQUIRE_RELABEL",
            Kind::Switch,
            "fail when the first boot does not print that it labels the files (SELinux)",
        )
        .prefixed_only(),
    ]
}
