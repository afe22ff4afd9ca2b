//! Declares the core's own settings, one row each. Providers declare theirs in their descriptions.

use build_image_plugin_api::{Setting, SettingKind as Kind};

use super::row::Row;
use crate::installers;

/// Help headings.
const BUILD: &str = "Build";
const SOURCE: &str = "Source";
const DISK: &str = "Disk";
const OUTPUT: &str = "Output";
const PLUGINS: &str = "Provider plugins";

fn row(group: &str, key: &str, kind: Kind, summary: &str) -> Row {
    let mut setting = Setting::new(key, kind, summary);
    group.clone_into(&mut setting.group);
    Row::new(setting)
}

/// Creates a row that the old tool did not have: another program may use its plain name in the environment.
fn new_row(group: &str, key: &str, kind: Kind, summary: &str) -> Row {
    row(group, key, kind, summary).prefixed_only()
}

fn with_default(mut row: Row, text: &str) -> Row {
    row.setting = row.setting.default_value(text);
    row
}

/// Keys that decide which provider and which configuration file are used.
const FIRST: [&str; 7] = [
    "PLATFORM",
    "CONFIG_FILE",
    "PROVIDER_DIR",
    "PROVIDER_FILE",
    "PROVIDERS_LOCK",
    "LOCKED",
    "ISOLATE",
];

/// Returns all rows of the core, with those of the installers.
#[must_use]
pub fn rows() -> Vec<Row> {
    let own = [
        build(),
        registration(),
        given_disk(),
        source(),
        disk(),
        output(),
        plugins(),
        information(),
    ];
    installers::with_rows(own.concat())
}

/// Returns the rows that must be parsed before all others are known.
#[must_use]
pub fn first_rows() -> Vec<Row> {
    rows().into_iter().filter(|row| FIRST.contains(&row.key())).collect()
}

fn build() -> Vec<Row> {
    let mut platform =
        row(BUILD, "PLATFORM", Kind::Text, "the provider: where the image goes").flag('p');
    platform.setting = platform.setting.pattern("[a-z][a-z0-9_]*");
    let mut on_failure = row(
        BUILD,
        "ON_FAILURE",
        Kind::Text,
        "what becomes of a failed build: removed, or kept for resume",
    )
    .prefixed_only();
    on_failure.setting = on_failure.setting.choices(&["undo", "keep"]).default_value("undo");
    vec![
        platform,
        row(BUILD, "CONFIG_FILE", Kind::Path, "YAML file of settings").flag('c'),
        row(
            BUILD,
            "CLOUD_IMAGE_NAME",
            Kind::Text,
            "exact name of the image; composed when not set",
        ),
        row(BUILD, "NO_UPLOAD", Kind::Switch, "stop when the disk image is published in IMAGE_DIR"),
        row(BUILD, "REUSE", Kind::Switch, "keep the artifacts when the build is done"),
        on_failure,
        row(BUILD, "IMAGE_TAGS", Kind::List, "tags to add: a list of one-key maps")
            .example("[{owner: team}]"),
        row(BUILD, "IMAGE_TAGS_EXCLUDE", Kind::List, "keys of automatic tags to leave out")
            .example("[build_type]"),
        row(
            BUILD,
            "DISABLE_TELEMETRY",
            Kind::Switch,
            "accepted for old scripts; there is no telemetry",
        ),
    ]
}

fn registration() -> Vec<Row> {
    vec![
        row(BUILD, "IMAGE_REGISTRATION_URL", Kind::Text, "registry to post the image to"),
        with_default(
            row(
                BUILD,
                "IMAGE_REGISTRATION_RETRY_COUNT",
                Kind::Integer,
                "attempts when the registry does not answer",
            ),
            "5",
        ),
        with_default(
            row(
                BUILD,
                "IMAGE_REGISTRATION_RETRY_DELAY",
                Kind::Integer,
                "seconds between these attempts",
            ),
            "30",
        ),
    ]
}

fn sha256(key: &str, summary: &str) -> Row {
    let mut row = new_row(SOURCE, key, Kind::Text, summary);
    row.setting = row.setting.pattern("[0-9a-fA-F]{64}");
    row
}

fn given_disk() -> Vec<Row> {
    vec![
        new_row(
            SOURCE,
            "DISK",
            Kind::Path,
            "disk image instead of an ISO, path or URL: raw, qcow2, VMDK, VHD, VHDX or VDI, also inside gzip, xz or zstd",
        ),
        new_row(
            SOURCE,
            "DISK_SIZE",
            Kind::Size,
            "size the given disk is to have; it only grows, by zeros behind its end; with a Linux ISO, size of the new disk",
        ),
        sha256("DISK_SHA256", "SHA-256 the file given with DISK must have"),
    ]
}

fn source() -> Vec<Row> {
    let key =
        "PEM key that verifies ISO signatures; once set, an ISO without a good one is refused";
    let signature = "signature of the ISO, path or URL; found beside the ISO when not set";
    let retries = "failed attempts of a download, one after the other, before it is given up";
    vec![
        row(SOURCE, "ISO", Kind::Path, "installer ISO, path or URL").flag('i'),
        row(SOURCE, "ISO_SIG", Kind::Path, signature).flag('s'),
        sha256("ISO_SHA256", "SHA-256 the ISO must have"),
        row(SOURCE, "ISO_SIG_VERIFICATION_PUBLIC_KEY", Kind::Path, key),
        with_default(
            row(
                SOURCE,
                "ISO_SIG_VERIFICATION_ENCRYPTION_TYPE",
                Kind::Text,
                "digest of ISO signatures, as openssl names it",
            ),
            "sha384",
        ),
        row(
            SOURCE,
            "IGNORE_DOWNLOAD_URL_TLS",
            Kind::Switch,
            "accept any certificate when downloading",
        ),
        with_default(new_row(SOURCE, "DOWNLOAD_RETRIES", Kind::Integer, retries), "8"),
        with_default(
            new_row(
                SOURCE,
                "DOWNLOAD_TIMEOUT",
                Kind::Duration,
                "longest time a download may stand still",
            ),
            "60s",
        ),
    ]
}

fn disk() -> Vec<Row> {
    let mut accel = new_row(DISK, "ACCEL", Kind::Text, "acceleration of the installing machine");
    accel.setting = accel.setting.choices(&["auto", "kvm", "tcg"]).default_value("auto");
    vec![
        new_row(DISK, "QEMU", Kind::Path, "qemu-system-x86_64 to use; found on PATH when not set"),
        with_default(
            new_row(DISK, "QEMU_MEMORY", Kind::Size, "memory of the installing machine"),
            "2GiB",
        ),
        with_default(
            new_row(DISK, "QEMU_CPUS", Kind::Integer, "processors of the installing machine"),
            "1",
        ),
        with_default(
            new_row(
                DISK,
                "INSTALL_TIMEOUT",
                Kind::Duration,
                "longest time one pass of the installation may take",
            ),
            "2h",
        ),
        with_default(
            new_row(
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

fn progress() -> Row {
    let mut row = new_row(
        OUTPUT,
        "PROGRESS",
        Kind::Text,
        "how progress is told on standard error: auto chooses by the terminal",
    );
    row.setting = row.setting.choices(&["auto", "plain", "json", "none"]).default_value("auto");
    row
}

fn journal_key() -> Row {
    new_row(
        OUTPUT,
        "JOURNAL_KEY_FILE",
        Kind::Path,
        "key that signs journals of runs, made when it is missing \
         [default: build-image/journal.key in XDG_STATE_HOME or ~/.local/state]",
    )
}

fn output() -> Vec<Row> {
    let free = "free space ARTIFACTS_DIR must have, MB; estimated when not set";
    let mut level = row(OUTPUT, "LOG_LEVEL", Kind::Text, "level of the log file");
    let levels = ["critical", "error", "warning", "info", "debug", "trace"];
    let both: Vec<String> =
        levels.iter().flat_map(|name| [(*name).to_owned(), name.to_uppercase()]).collect();
    level.setting.choices = both;
    level.setting = level.setting.default_value("info");
    let mut package = new_row(
        OUTPUT,
        "PACKAGE",
        Kind::Text,
        "published image: in its provider's archive, or alone",
    );
    package.setting = package.setting.choices(&["archive", "none"]).default_value("archive");
    vec![
        package,
        row(OUTPUT, "IMAGE_DIR", Kind::Path, "folder for published images [default: images]"),
        row(
            OUTPUT,
            "ARTIFACTS_DIR",
            Kind::Path,
            "folder for files of running builds [default: artifacts]",
        ),
        row(OUTPUT, "MIN_FREE_DISK_STORAGE_MB", Kind::Integer, free),
        row(OUTPUT, "LOG_FILE", Kind::Path, "log file or directory [default: logs/RUN.log]"),
        level,
        journal_key(),
        row(OUTPUT, "OUTPUT_JSON_FILE", Kind::Path, "write the result document to this file"),
        new_row(
            OUTPUT,
            "PROVENANCE_FILE",
            Kind::Path,
            "write what the image was made of to this file: an in-toto statement, SLSA provenance; with \
             IMAGE_SIG_PRIVATE_KEY also a signed one, ending in .intoto.jsonl",
        ),
        new_row(OUTPUT, "JSON", Kind::Switch, "print the result document on standard output"),
        progress(),
        new_row(OUTPUT, "QUIET", Kind::Switch, "warnings and errors only, as --progress none")
            .flag('q'),
        row(
            OUTPUT,
            "HYPERVISOR_IMAGE_NAME",
            Kind::Text,
            "file name of a published image, without suffix",
        ),
        row(OUTPUT, "IMAGE_SIG_PRIVATE_KEY", Kind::Path, "PEM key that signs published images"),
        row(
            OUTPUT,
            "IMAGE_SIG_PUBLIC_KEY",
            Kind::Path,
            "second PEM key that verifies ISO signatures",
        ),
        row(
            OUTPUT,
            "IMAGE_SIG_ENCRYPTION_TYPE",
            Kind::Text,
            "digest of signatures by that key, as openssl names it [default: sha3-512]",
        ),
    ]
}

fn plugins() -> Vec<Row> {
    vec![
        new_row(
            PLUGINS,
            "PROVIDER_DIR",
            Kind::Path,
            "folder to look for provider plugins in first",
        ),
        new_row(PLUGINS, "PROVIDER_FILE", Kind::Path, "plugin file to use for the platform"),
        new_row(
            PLUGINS,
            "PROVIDERS_LOCK",
            Kind::Path,
            "lock file of provider plugins [default: build-image.lock beside the configuration file]",
        ),
        new_row(PLUGINS, "LOCKED", Kind::Switch, "load only provider plugins that are locked"),
        new_row(
            PLUGINS,
            "ISOLATE",
            Kind::Switch,
            "run the provider plugin in a process of its own",
        ),
    ]
}

fn information() -> Vec<Row> {
    vec![
        new_row(BUILD, "INFO", Kind::Switch, "print JSON about this host and exit"),
        new_row(BUILD, "DOCS", Kind::Switch, "write tables of settings")
            .unsupported("settings are listed by --help, with -p NAME also the provider's"),
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
            let legal = |letter: char| {
                letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_'
            };
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
