//! The core's own settings, one row each. Providers bring theirs in their descriptions.

use build_image_plugin_api::{Setting, SettingKind as Kind};

use super::row::Row;

/// Help headings.
const BUILD: &str = "Build";
const SOURCE: &str = "Source";
const DISK: &str = "Disk";
const OUTPUT: &str = "Output";
const PLUGINS: &str = "Provider plugins";

const LATER: &str = "this version does not do that yet";

fn row(group: &str, key: &str, kind: Kind, summary: &str) -> Row {
    let mut setting = Setting::new(key, kind, summary);
    group.clone_into(&mut setting.group);
    Row::new(setting)
}

/// All rows of the core.
#[must_use]
pub fn rows() -> Vec<Row> {
    [build(), source(), disk(), output(), plugins()].concat()
}

fn build() -> Vec<Row> {
    let mut platform =
        row(BUILD, "PLATFORM", Kind::Text, "the provider: where the image goes").flag('p');
    platform.setting = platform.setting.pattern("[a-z][a-z0-9_]*");
    let mut modules = row(BUILD, "MODULES", Kind::Text, "module set of a BIG-IP image").flag('m');
    modules.setting = modules.setting.choices(&["all", "ltm"]);
    let mut slots =
        row(BUILD, "BOOT_LOCATIONS", Kind::Text, "number of install slots of a BIG-IP image")
            .flag('b');
    slots.setting = slots.setting.choices(&["1", "2"]);
    vec![
        platform,
        row(BUILD, "CONFIG_FILE", Kind::Path, "YAML file of settings").flag('c'),
        modules,
        slots,
        row(
            BUILD,
            "CLOUD_IMAGE_NAME",
            Kind::Text,
            "exact name of the image; composed when not set",
        ),
        row(BUILD, "NO_UPLOAD", Kind::Switch, "stop when the disk image is published in IMAGE_DIR"),
        row(BUILD, "REUSE", Kind::Switch, "keep the artifacts when the build is done"),
        row(BUILD, "IMAGE_TAGS", Kind::List, "tags to add: a list of one-key maps"),
        row(BUILD, "IMAGE_TAGS_EXCLUDE", Kind::List, "keys of automatic tags to leave out"),
        row(BUILD, "IMAGE_REGISTRATION_URL", Kind::Text, "registry to post the image to")
            .unsupported(LATER),
        row(
            BUILD,
            "DISABLE_TELEMETRY",
            Kind::Switch,
            "accepted for old scripts; there is no telemetry",
        ),
    ]
}

fn source() -> Vec<Row> {
    vec![
        row(SOURCE, "ISO", Kind::Path, "BIG-IP installer ISO").flag('i'),
        row(SOURCE, "DISK", Kind::Path, "raw disk image to use instead of installing an ISO"),
        row(SOURCE, "ISO_SIG", Kind::Path, "signature of the ISO").flag('s').unsupported(LATER),
        row(SOURCE, "EHF_ISO", Kind::Path, "engineering hotfix ISO").flag('e').unsupported(LATER),
        row(SOURCE, "EHF_ISO_SIG", Kind::Path, "signature of the hotfix ISO")
            .flag('x')
            .unsupported(LATER),
        row(
            SOURCE,
            "ISO_SIG_VERIFICATION_PUBLIC_KEY",
            Kind::Path,
            "key that verifies ISO signatures",
        )
        .unsupported(LATER),
        row(SOURCE, "ISO_SIG_VERIFICATION_ENCRYPTION_TYPE", Kind::Text, "digest of ISO signatures")
            .unsupported(LATER),
        row(
            SOURCE,
            "IGNORE_DOWNLOAD_URL_TLS",
            Kind::Switch,
            "accept any certificate when downloading",
        )
        .unsupported(LATER),
    ]
}

fn disk() -> Vec<Row> {
    let mut accel = row(DISK, "ACCEL", Kind::Text, "acceleration of the installing machine");
    accel.setting = accel.setting.choices(&["auto", "kvm", "tcg"]).default_value("auto");
    let with_default = |mut row: Row, text: &str| {
        row.setting = row.setting.default_value(text);
        row
    };
    vec![
        row(DISK, "UPDATE_LV_SIZES", Kind::Map, "larger volumes: a map of volume to MiB"),
        row(
            DISK,
            "UPDATE_IMAGE_FILES",
            Kind::List,
            "files to put into the image: source, destination, mode",
        ),
        row(
            DISK,
            "CONSOLE_DEVICES",
            Kind::List,
            "consoles of the installed system; ttyS0 is added last",
        ),
        row(DISK, "DISABLE_SPLASH", Kind::Switch, "no boot splash in the installed system"),
        row(DISK, "QEMU", Kind::Path, "qemu-system-x86_64 to use; found on PATH when not set"),
        with_default(
            row(DISK, "QEMU_MEMORY", Kind::Size, "memory of the installing machine"),
            "2GiB",
        ),
        with_default(
            row(DISK, "QEMU_CPUS", Kind::Integer, "processors of the installing machine"),
            "1",
        ),
        with_default(
            row(
                DISK,
                "INSTALL_TIMEOUT",
                Kind::Duration,
                "longest time one pass of the installation may take",
            ),
            "2h",
        ),
        with_default(
            row(
                DISK,
                "SILENCE_TIMEOUT",
                Kind::Duration,
                "longest time the guest may print nothing",
            ),
            "20m",
        ),
        accel,
    ]
}

fn output() -> Vec<Row> {
    let mut level = row(OUTPUT, "LOG_LEVEL", Kind::Text, "level of the log file");
    let words = ["critical", "error", "warning", "info", "debug", "trace"];
    let both: Vec<String> =
        words.iter().flat_map(|word| [(*word).to_owned(), word.to_uppercase()]).collect();
    level.setting.choices = both;
    level.setting = level.setting.default_value("info");
    vec![
        row(OUTPUT, "IMAGE_DIR", Kind::Path, "folder for published images [default: images]"),
        row(
            OUTPUT,
            "ARTIFACTS_DIR",
            Kind::Path,
            "folder for files of running builds [default: artifacts]",
        ),
        row(OUTPUT, "LOG_FILE", Kind::Path, "log file, or folder for it [default: logs/image-…]"),
        level,
        row(OUTPUT, "OUTPUT_JSON_FILE", Kind::Path, "write the result document to this file"),
        row(OUTPUT, "JSON", Kind::Switch, "print the result document on standard output"),
        row(OUTPUT, "QUIET", Kind::Switch, "no progress on the terminal").flag('q'),
        row(
            OUTPUT,
            "HYPERVISOR_IMAGE_NAME",
            Kind::Text,
            "file name of a published image, without suffix",
        ),
        row(OUTPUT, "IMAGE_SIG_PRIVATE_KEY", Kind::Path, "key that signs published images")
            .unsupported(LATER),
        row(OUTPUT, "IMAGE_SIG_PUBLIC_KEY", Kind::Path, "second key that verifies ISO signatures")
            .unsupported(LATER),
        row(OUTPUT, "IMAGE_SIG_ENCRYPTION_TYPE", Kind::Text, "digest of image signatures")
            .unsupported(LATER),
    ]
}

fn plugins() -> Vec<Row> {
    vec![
        row(PLUGINS, "PROVIDER_DIR", Kind::Path, "folder to look for provider plugins in first"),
        row(PLUGINS, "PROVIDER_FILE", Kind::Path, "plugin file to use for the platform"),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_and_flags_are_unique_and_legal() {
        let (mut keys, mut flags) = (BTreeSet::new(), BTreeSet::new());
        for row in rows() {
            let legal = |letter: char| letter.is_ascii_uppercase() || letter == '_';
            assert!(row.key().chars().all(legal), "{}", row.key());
            assert!(keys.insert(row.key().to_owned()), "{} twice", row.key());
            assert!(row.flag.is_none_or(|flag| flags.insert(flag)), "{:?} twice", row.flag);
            assert!(!row.setting.summary.is_empty() && !row.setting.summary.ends_with('.'));
            assert!(!row.setting.group.is_empty());
        }
    }

    #[test]
    fn defaults_fit_their_own_rows() {
        for row in rows() {
            if let Some(default) = &row.setting.default {
                let parsed = super::super::parse_text(&row.setting, default);
                assert!(matches!(parsed, Ok(Some(_))), "{}: {parsed:?}", row.key());
            }
        }
    }
}
