//! Declares the settings of the core: one table, from which keys, flags, help, and the settings of each command are
//! derived. Providers declare theirs in their descriptions.

use std::sync::LazyLock;

use build_image_plugin_api::{Setting, SettingKind as Kind};

use super::{
    choice::{LogLevel, OnFailure, Package, ProgressMode},
    guest,
    key::Key,
    row::{AppliesTo, OnResume, Row, Use, Written},
};

/// Help headings.
pub(super) const BUILD: &str = "Build";
pub(super) const SOURCE: &str = "Source";
pub(super) const DISK: &str = "Disk";
const OUTPUT: &str = "Output";
const PLUGINS: &str = "Provider plugins";

/// Pattern of a SHA-256.
pub(super) const SHA256: &str = "[0-9a-fA-F]{64}";

/// Defines a key and a row for each setting: `KEY(heading, kind, summary)`, followed by attributes, which are methods of
/// [`Row`]. Settings that the old tool did not have are `prefixed_only`: another program may use their plain name in
/// the environment.
macro_rules! settings {
    ($($key:ident($group:expr, $kind:ident, $summary:expr)
        $(.$attribute:ident($($value:expr),* $(,)?))*),* $(,)?) => {
        /// The keys of the core's settings.
        pub mod keys {
            use super::Key;
            $(
                #[doc = $summary]
                pub const $key: Key = Key::new(stringify!($key));
            )*
        }

        fn table() -> Vec<Row> {
            vec![$(
                Row::new(Setting::new(keys::$key.name(), Kind::$kind, $summary).group($group))
                    $(.$attribute($($value),*))*
            ),*]
        }
    };
}

settings![
    PLATFORM(BUILD, Text, "the provider: where the image goes")
        .flag('p')
        .pattern("[a-z][a-z0-9_]*")
        .used_by(&[Use::Selection, Use::Help]),
    CONFIG_FILE(BUILD, Path, "YAML file of settings").flag('c').used_by(&[
        Use::Selection,
        Use::Adoption,
        Use::Doctor,
        Use::Help,
        Use::Providers,
        Use::Runs
    ]),
    CLOUD_IMAGE_NAME(BUILD, Text, "exact name of the image; composed when not set")
        .on_resume(OnResume::Fixed),
    NO_UPLOAD(BUILD, Switch, "stop when the disk image is published in IMAGE_DIR")
        .on_resume(OnResume::Fixed),
    REUSE(BUILD, Switch, "keep the artifacts when the build is done"),
    ON_FAILURE(BUILD, Text, "what becomes of a failed build: removed, or kept for resume")
        .prefixed_only()
        .choices(OnFailure::WORDS)
        .default_value("undo"),
    IMAGE_TAGS(BUILD, List, "tags to add: a list of one-key maps")
        .example("[{owner: team}]")
        .on_resume(OnResume::Fixed),
    IMAGE_TAGS_EXCLUDE(BUILD, List, "keys of automatic tags to leave out")
        .example("[build_type]")
        .on_resume(OnResume::Fixed),
    DISABLE_TELEMETRY(BUILD, Switch, "accepted for old scripts; there is no telemetry"),
    IMAGE_REGISTRATION_URL(BUILD, Text, "registry to post the image to"),
    IMAGE_REGISTRATION_RETRY_COUNT(BUILD, Integer, "attempts when the registry does not answer")
        .default_value("5"),
    IMAGE_REGISTRATION_RETRY_DELAY(BUILD, Integer, "seconds between these attempts")
        .default_value("30"),
    DISK(
        SOURCE,
        Path,
        "disk image instead of an ISO, path or URL: raw, qcow2, VMDK, VHD, VHDX or VDI, also inside gzip, xz or zstd"
    )
    .prefixed_only()
    .on_resume(OnResume::Fixed),
    DISK_SIZE(SOURCE, Size, "size the given disk is to have; it only grows, by zeros behind its end")
        .prefixed_only()
        .on_resume(OnResume::Fixed)
        .applies_to(AppliesTo::GivenDisk {
            hint: "leave it out; the size of an installed disk follows from UPDATE_LV_SIZES",
        }),
    DISK_SHA256(SOURCE, Text, "SHA-256 the file given with DISK must have")
        .prefixed_only()
        .pattern(SHA256)
        .on_resume(OnResume::UntilRegistered)
        .applies_to(AppliesTo::GivenDisk { hint: "leave it out, or set ISO_SHA256 for an ISO" }),
    ISO(SOURCE, Path, "BIG-IP installer ISO, path or URL").flag('i').on_resume(OnResume::Fixed),
    ISO_SIG(SOURCE, Path, "signature of the ISO, path or URL; found beside the ISO when not set")
        .flag('s')
        .on_resume(OnResume::UntilRegistered)
        .applies_to(AppliesTo::Installation { expected: false }),
    ISO_SHA256(SOURCE, Text, "SHA-256 the ISO must have")
        .prefixed_only()
        .pattern(SHA256)
        .on_resume(OnResume::UntilRegistered)
        .applies_to(AppliesTo::Installation { expected: false }),
    ISO_SIG_VERIFICATION_PUBLIC_KEY(
        SOURCE,
        Path,
        "PEM key that verifies ISO signatures; once set, an ISO without a good one is refused"
    )
    .on_resume(OnResume::UntilRegistered),
    ISO_SIG_VERIFICATION_ENCRYPTION_TYPE(
        SOURCE,
        Text,
        "digest of ISO signatures, as openssl names it"
    )
    .default_value("sha384")
    .on_resume(OnResume::UntilRegistered),
    IGNORE_DOWNLOAD_URL_TLS(SOURCE, Switch, "accept any certificate when downloading"),
    DOWNLOAD_RETRIES(
        SOURCE,
        Integer,
        "failed attempts of a download, one after the other, before it is given up"
    )
    .prefixed_only()
    .default_value("8"),
    DOWNLOAD_TIMEOUT(SOURCE, Duration, "longest time a download may stand still")
        .prefixed_only()
        .default_value("60s"),
    QEMU(DISK, Path, "qemu-system-x86_64 to use; found on PATH when not set")
        .prefixed_only()
        .used_by(&[Use::Adoption, Use::Doctor]),
    QEMU_MEMORY(DISK, Size, "memory of the installing machine")
        .prefixed_only()
        .default_value("2GiB")
        .used_by(&[Use::Doctor]),
    QEMU_CPUS(DISK, Integer, "processors of the installing machine")
        .prefixed_only()
        .default_value("1"),
    INSTALL_TIMEOUT(DISK, Duration, "longest time one pass of the installation may take")
        .prefixed_only()
        .default_value("2h"),
    SILENCE_TIMEOUT(DISK, Duration, "longest time the guest may print nothing")
        .prefixed_only()
        .default_value("20m"),
    ACCEL(DISK, Text, "acceleration of the installing machine")
        .prefixed_only()
        .choices(&["auto", "kvm", "tcg"])
        .default_value("auto")
        .used_by(&[Use::Doctor]),
    PACKAGE(OUTPUT, Text, "published image: in its provider's archive, or alone")
        .prefixed_only()
        .choices(Package::WORDS)
        .default_value("archive")
        .on_resume(OnResume::Fixed),
    IMAGE_DIR(OUTPUT, Path, "folder for published images [default: images]")
        .on_resume(OnResume::Fixed)
        .used_by(&[Use::Doctor]),
    ARTIFACTS_DIR(OUTPUT, Path, "folder for files of running builds [default: artifacts]")
        .used_by(&[Use::Doctor, Use::Runs]),
    MIN_FREE_DISK_STORAGE_MB(
        OUTPUT,
        Integer,
        "free space ARTIFACTS_DIR must have, MB; estimated when not set"
    ),
    LOG_FILE(OUTPUT, Path, "log file or directory [default: logs/RUN.log]").writes(Written::Lines),
    LOG_LEVEL(OUTPUT, Text, "level of the log file")
        .choices_in_both_cases(LogLevel::WORDS)
        .default_value("info"),
    JOURNAL_KEY_FILE(
        OUTPUT,
        Path,
        "key that signs journals of runs, made when it is missing \
         [default: build-image/journal.key in XDG_STATE_HOME or ~/.local/state]"
    )
    .prefixed_only()
    .used_by(&[Use::Runs]),
    OUTPUT_JSON_FILE(OUTPUT, Path, "write the result document to this file")
        .writes(Written::Json)
        .used_by(&[Use::Report]),
    PROVENANCE_FILE(
        OUTPUT,
        Path,
        "write what the image was made of to this file: an in-toto statement, SLSA provenance; with \
         IMAGE_SIG_PRIVATE_KEY also a signed one, ending in .intoto.jsonl"
    )
    .prefixed_only()
    .writes(Written::Json),
    JSON(OUTPUT, Switch, "print the result document on standard output")
        .prefixed_only()
        .used_by(&[Use::Report, Use::Doctor, Use::Providers, Use::Runs]),
    PROGRESS(
        OUTPUT,
        Text,
        "how progress is told on standard error: auto chooses by the terminal"
    )
    .prefixed_only()
    .choices(ProgressMode::WORDS)
    .default_value("auto")
    .used_by(&[Use::Report]),
    QUIET(OUTPUT, Switch, "warnings and errors only, as --progress none")
        .prefixed_only()
        .flag('q')
        .used_by(&[Use::Report]),
    HYPERVISOR_IMAGE_NAME(OUTPUT, Text, "file name of a published image, without suffix")
        .on_resume(OnResume::Fixed),
    IMAGE_SIG_PRIVATE_KEY(OUTPUT, Path, "PEM key that signs published images")
        .on_resume(OnResume::UntilReleased),
    IMAGE_SIG_PUBLIC_KEY(OUTPUT, Path, "second PEM key that verifies ISO signatures")
        .on_resume(OnResume::UntilReleased),
    IMAGE_SIG_ENCRYPTION_TYPE(
        OUTPUT,
        Text,
        "digest of signatures by that key, as openssl names it [default: sha3-512]"
    )
    .on_resume(OnResume::UntilReleased),
    PROVIDER_DIR(PLUGINS, Path, "folder to look for provider plugins in first")
        .prefixed_only()
        .used_by(&[
            Use::Selection,
            Use::Adoption,
            Use::Doctor,
            Use::Help,
            Use::Providers,
            Use::Shell
        ]),
    PROVIDER_FILE(PLUGINS, Path, "plugin file to use for the platform").prefixed_only().used_by(&[
        Use::Selection,
        Use::Adoption,
        Use::Doctor,
        Use::Help,
        Use::Providers,
        Use::Shell
    ]),
    PROVIDERS_LOCK(
        PLUGINS,
        Path,
        "lock file of provider plugins [default: build-image.lock beside the configuration file]"
    )
    .prefixed_only()
    .used_by(&[Use::Selection, Use::Adoption, Use::Providers]),
    LOCKED(PLUGINS, Switch, "load only provider plugins that are locked")
        .prefixed_only()
        .used_by(&[Use::Selection, Use::Providers]),
    ISOLATE(PLUGINS, Switch, "run the provider plugin in a process of its own")
        .prefixed_only()
        .used_by(&[Use::Selection]),
    INFO(BUILD, Switch, "print JSON about this host and exit").prefixed_only(),
    DOCS(BUILD, Switch, "write tables of settings")
        .prefixed_only()
        .unsupported("settings are listed by --help, with -p NAME also the provider's"),
];

/// All rows that are known without a provider, in the order of help and documentation.
static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| merged(table(), guest::rows()));

/// Inserts rows from outside of the core's table after the rows that they name.
fn merged(mut rows: Vec<Row>, others: Vec<Row>) -> Vec<Row> {
    for row in others {
        let place = rows.iter().position(|one| Some(one.key()) == row.after);
        rows.insert(place.map_or(rows.len(), |place| place + 1), row);
    }
    rows
}

/// Returns all rows that are known without a provider.
#[must_use]
pub fn core_rows() -> Vec<Row> {
    ROWS.clone()
}

/// Returns the row of a setting that is known without a provider.
pub(crate) fn core_row(key: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.key() == key)
}

/// Returns the rows that are read for one use.
#[must_use]
pub fn rows_for(reader: Use) -> Vec<Row> {
    ROWS.iter().filter(|row| row.is_used_by(reader)).cloned().collect()
}

/// Returns the rows of these settings.
#[must_use]
pub fn rows_of(keys: &[Key]) -> Vec<Row> {
    keys.iter().filter_map(|key| core_row(key.name()).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_and_flags_are_unique_and_legal() {
        let (mut keys, mut flags) = (BTreeSet::new(), BTreeSet::new());
        for row in core_rows() {
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
        for row in core_rows() {
            if let Some(default) = &row.setting.default {
                let parsed = super::super::parse_text(&row.setting, default);
                assert!(matches!(parsed, Ok(Some(_))), "{}: {parsed:?}", row.key());
            }
        }
    }

    #[test]
    fn rows_from_elsewhere_are_listed_where_they_belong() {
        let row = |key| Row::new(Setting::new(key, Kind::Text, "x"));
        let rows = vec![row("A"), row("B")];
        let others =
            vec![row("A1").after("A"), row("A2").after("A1"), row("Z"), row("Y").after("?")];
        let keys: Vec<String> =
            merged(rows, others).iter().map(|row| row.key().to_owned()).collect();
        assert_eq!(keys, ["A", "A1", "A2", "B", "Z", "Y"]);
        assert!(guest::rows().iter().all(|row| row.after.and_then(core_row).is_some()));
    }
}
