//! Reads the settings of the core into structs, one per group. A setting that is not set, or that the command does not
//! read, has the default of its row.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use serde_json::Value as Json;

use super::{
    choice::{LogLevel, OnFailure, Package, ProgressMode},
    key::Key,
    parse::parse_text,
    resolve::Resolved,
    schema::{core_rows, keys},
};

/// A type of fields: made from the value that a row's kind produces.
pub(super) trait FromSetting: Sized {
    /// Converts a value; `None` when it has another type.
    fn of(value: &Json) -> Option<Self>;

    /// The value of a setting that is not set and has no default; `None` when its row must have a default.
    fn unset() -> Option<Self> {
        None
    }
}

/// A switch is off unless it is set.
impl FromSetting for bool {
    fn of(value: &Json) -> Option<Self> {
        value.as_bool()
    }

    fn unset() -> Option<Self> {
        Some(false)
    }
}

impl FromSetting for u64 {
    fn of(value: &Json) -> Option<Self> {
        value.as_u64()
    }
}

/// From seconds.
impl FromSetting for Duration {
    fn of(value: &Json) -> Option<Self> {
        value.as_u64().map(Self::from_secs)
    }
}

impl FromSetting for String {
    fn of(value: &Json) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl FromSetting for PathBuf {
    fn of(value: &Json) -> Option<Self> {
        value.as_str().map(Self::from)
    }
}

/// Lists and maps, whose elements the module that reads them checks.
impl FromSetting for Json {
    fn of(value: &Json) -> Option<Self> {
        Some(value.clone())
    }
}

impl<T: FromSetting> FromSetting for Option<T> {
    fn of(value: &Json) -> Option<Self> {
        T::of(value).map(Some)
    }

    fn unset() -> Option<Self> {
        Some(None)
    }
}

/// Defines a struct per group: `field: Type = KEY`.
macro_rules! groups {
    ($($(#[$group_doc:meta])* $group:ident: $name:ident {
        $($(#[$doc:meta])* $field:ident: $type:ty = $key:ident),* $(,)?
    })*) => {
        $(
            $(#[$group_doc])*
            #[derive(Clone, Debug, Default)]
            pub struct $name {
                $($(#[$doc])* pub $field: $type),*
            }
        )*

        /// The settings of the core, by group.
        #[derive(Clone, Debug, Default)]
        pub struct CoreSettings {
            $($(#[$group_doc])* pub $group: $name),*
        }

        impl CoreSettings {
            /// Reads them from resolved values.
            pub(super) fn of(settings: &Resolved) -> Self {
                Self {
                    $($group: $name {
                        $($field: read(settings, keys::$key)),*
                    }),*
                }
            }
        }

        /// The key of every field, and whether its row needs no default.
        #[cfg(test)]
        fn fields() -> Vec<(Key, bool)> {
            vec![$($((keys::$key, <$type as FromSetting>::unset().is_some())),*),*]
        }
    };
}

groups! {
    /// What the image is made of.
    source: Source {
        /// Installer ISO: a path or a URL.
        iso: Option<String> = ISO,
        /// Disk image: a path or a URL.
        disk: Option<String> = DISK,
        /// Requested size of the disk image, bytes.
        disk_size: Option<u64> = DISK_SIZE,
    }

    /// Checksums and keys that the source must match, and the key that signs published images.
    signatures: Signatures {
        /// Expected SHA-256 of the ISO, hexadecimal.
        iso_sha256: Option<String> = ISO_SHA256,
        /// Expected SHA-256 of the disk image's file, hexadecimal.
        disk_sha256: Option<String> = DISK_SHA256,
        /// Signature of the ISO: a path or a URL.
        iso_signature: Option<String> = ISO_SIG,
        /// PEM file of the key that verifies ISO signatures.
        iso_key: Option<PathBuf> = ISO_SIG_VERIFICATION_PUBLIC_KEY,
        /// Digest of signatures by that key, as openssl names it.
        iso_digest: String = ISO_SIG_VERIFICATION_ENCRYPTION_TYPE,
        /// PEM file of the key that signs published images.
        image_private_key: Option<PathBuf> = IMAGE_SIG_PRIVATE_KEY,
        /// PEM file of its public key, which also verifies ISO signatures.
        image_public_key: Option<PathBuf> = IMAGE_SIG_PUBLIC_KEY,
        /// Digest of signatures by that key, as openssl names it.
        image_digest: Option<String> = IMAGE_SIG_ENCRYPTION_TYPE,
    }

    /// Downloads of the source and of files for the image, and other connections to servers of the user.
    download: Download {
        /// Whether any certificate of a server is accepted.
        any_certificate: bool = IGNORE_DOWNLOAD_URL_TLS,
        /// Consecutive failed attempts before a download is given up.
        retries: u64 = DOWNLOAD_RETRIES,
        /// Longest time without a byte.
        stall: Duration = DOWNLOAD_TIMEOUT,
    }

    /// The virtual machine that runs an installer.
    machine: Machine {
        /// Path of qemu; found on PATH when not set.
        qemu: Option<PathBuf> = QEMU,
        /// Memory, bytes.
        memory: u64 = QEMU_MEMORY,
        /// Number of processors.
        cpus: u64 = QEMU_CPUS,
        /// `auto`, `kvm`, or `tcg`.
        accel: String = ACCEL,
        /// Longest time of one pass.
        total: Duration = INSTALL_TIMEOUT,
        /// Longest time without output of the guest.
        silence: Duration = SILENCE_TIMEOUT,
    }

    /// What is built, and what stays of a build.
    run: Run {
        /// Whether the build stops before the upload.
        no_upload: bool = NO_UPLOAD,
        /// Whether the artifacts are kept.
        reuse: bool = REUSE,
        /// What becomes of a failed build.
        on_failure: OnFailure = ON_FAILURE,
        /// File of the key that signs journals.
        journal_key: Option<PathBuf> = JOURNAL_KEY_FILE,
        /// Whether facts about this host are printed instead.
        info: bool = INFO,
    }

    /// Name and tags of the image.
    image: Image {
        /// Exact name of the image.
        name: Option<String> = CLOUD_IMAGE_NAME,
        /// Tags to add: a list of maps with one key each.
        tags: Option<Json> = IMAGE_TAGS,
        /// Keys of automatic tags that are left out: a list.
        excluded_tags: Option<Json> = IMAGE_TAGS_EXCLUDE,
    }

    /// Files on this machine.
    publication: Publication {
        /// Directory of published images.
        image_dir: Option<PathBuf> = IMAGE_DIR,
        /// Directory of the files of all running builds.
        artifacts_dir: Option<PathBuf> = ARTIFACTS_DIR,
        /// Free space that the latter must have, MB (1 000 000 bytes).
        minimum_free_mb: Option<u64> = MIN_FREE_DISK_STORAGE_MB,
        /// Whether the image is published in its provider's archive.
        package: Package = PACKAGE,
        /// File name of a published image, without suffix.
        file_stem: Option<String> = HYPERVISOR_IMAGE_NAME,
        /// File of the provenance statement.
        provenance: Option<PathBuf> = PROVENANCE_FILE,
    }

    /// Progress, log, and result.
    output: Output {
        /// Log: a file, a file name, or a directory.
        log_file: Option<String> = LOG_FILE,
        /// Lowest level of the log's messages.
        log_level: LogLevel = LOG_LEVEL,
        /// File of the result document, or its directory.
        result_file: Option<String> = OUTPUT_JSON_FILE,
        /// Whether the result document is printed on standard output.
        json: bool = JSON,
        /// How progress is reported.
        progress: ProgressMode = PROGRESS,
        /// Whether only warnings and errors are printed.
        quiet: bool = QUIET,
    }

    /// How the provider's plugin is found and loaded.
    plugins: Plugins {
        /// Name of the provider.
        platform: Option<String> = PLATFORM,
        /// The configuration file.
        config_file: Option<PathBuf> = CONFIG_FILE,
        /// Directory that is searched first.
        directory: Option<PathBuf> = PROVIDER_DIR,
        /// The plugin's file.
        file: Option<PathBuf> = PROVIDER_FILE,
        /// The lock file.
        lock_file: Option<PathBuf> = PROVIDERS_LOCK,
        /// Whether only locked plugins are loaded.
        locked: bool = LOCKED,
        /// Whether the plugin runs in a separate process.
        isolate: bool = ISOLATE,
    }

    /// The registry that is notified of an image.
    registry: Registry {
        /// Its URL.
        url: Option<String> = IMAGE_REGISTRATION_URL,
        /// Attempts when it does not answer.
        attempts: u64 = IMAGE_REGISTRATION_RETRY_COUNT,
        /// Pause between attempts.
        pause: Duration = IMAGE_REGISTRATION_RETRY_DELAY,
    }
}

impl Signatures {
    /// Returns the digest of signatures by the key of published images.
    #[must_use]
    pub fn image_digest(&self) -> &str {
        self.image_digest.as_deref().unwrap_or("sha3-512")
    }
}

impl Publication {
    /// Returns the directory of published images, relative to the run's.
    #[must_use]
    pub fn images(&self) -> &Path {
        self.image_dir.as_deref().unwrap_or(Path::new("images"))
    }

    /// Returns the directory of the files of all running builds, relative to the run's.
    #[must_use]
    pub fn artifacts(&self) -> &Path {
        self.artifacts_dir.as_deref().unwrap_or(Path::new("artifacts"))
    }
}

/// Parsed defaults of rows.
static DEFAULTS: LazyLock<BTreeMap<String, Json>> = LazyLock::new(|| {
    let parsed = |text: &String, row: &super::Row| parse_text(&row.setting, text).ok().flatten();
    let rows = core_rows().into_iter();
    rows.filter_map(|row| {
        let default = row.setting.default.as_ref()?;
        Some((row.key().to_owned(), parsed(default, &row)?))
    })
    .collect()
});

fn read<T: FromSetting + Default>(settings: &Resolved, key: Key) -> T {
    let set = settings.get(key).map(|value| &value.json);
    let value = set.or_else(|| DEFAULTS.get(key.name())).and_then(T::of);
    value.or_else(T::unset).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{FileLayer, Layers};

    /// Accepted for old scripts, without effect.
    const UNREAD: [Key; 1] = [keys::DISABLE_TELEMETRY];

    #[test]
    fn every_setting_of_the_table_is_read_into_one_field() {
        let fields = fields();
        for row in core_rows().iter().filter(|row| row.after.is_none()) {
            let count = fields.iter().filter(|(key, _)| *key == *row).count();
            let unread = UNREAD.iter().any(|key| *key == *row) || row.unsupported.is_some();
            assert_eq!(count, usize::from(!unread), "{}", row.key());
        }
        for (key, needs_no_default) in fields {
            assert!(needs_no_default || DEFAULTS.contains_key(key.name()), "{key} has no default");
        }
    }

    #[test]
    fn every_type_of_field_reads_the_value_of_its_kind() {
        let text = "DISK_SIZE: 1MiB\nREUSE: yes\nSILENCE_TIMEOUT: 2m\nIMAGE_TAGS: [{a: b}]\n\
                    ON_FAILURE: keep\nLOG_LEVEL: DEBUG\nIMAGE_DIR: /d\nPLATFORM: acme\n";
        let file = FileLayer::parse(Path::new("c.yml"), text).ok();
        let layers = Layers { file, ..Layers::default() };
        let resolved = layers.resolve(&core_rows()).unwrap();
        let set = resolved.core();
        assert_eq!(set.source.disk_size, Some(1 << 20));
        assert!(set.run.reuse && !set.run.no_upload);
        assert_eq!(set.machine.silence, Duration::from_secs(120));
        assert_eq!(set.image.tags, Some(serde_json::json!([{"a": "b"}])));
        assert_eq!((set.run.on_failure, set.output.log_level), (OnFailure::Keep, LogLevel::Debug));
        assert_eq!(set.publication.images(), Path::new("/d"));
        assert_eq!(set.plugins.platform.as_deref(), Some("acme"));
    }

    #[test]
    fn settings_that_are_not_set_have_the_defaults_of_their_rows() {
        let resolved = Resolved::default();
        let unset = resolved.core();
        assert_eq!((unset.machine.memory, unset.machine.cpus), (2 << 30, 1));
        assert_eq!(unset.machine.total, Duration::from_secs(7200));
        assert_eq!((unset.download.retries, unset.download.stall.as_secs()), (8, 60));
        assert_eq!(
            (unset.output.log_level, unset.run.on_failure),
            (LogLevel::Info, OnFailure::Undo)
        );
        assert_eq!(unset.publication.artifacts(), Path::new("artifacts"));
        assert_eq!(unset.source.iso, None);
    }
}
