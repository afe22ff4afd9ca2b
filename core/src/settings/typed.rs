//! Reads values into the fields of structs. A setting that is not set, or that the command does not read, has the
//! default of its row.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use serde_json::Value as Json;

use super::{
    groups::{Publication, Signatures},
    key::Key,
    parse::parse_text,
    resolve::Resolved,
    rows::core_rows,
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

impl FromSetting for build_image_disk::Format {
    fn of(value: &Json) -> Option<Self> {
        value.as_str()?.parse().ok()
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

pub(super) fn read<T: FromSetting + Default>(settings: &Resolved, key: Key) -> T {
    let set = settings.get(key).map(|value| &value.json);
    let value = set.or_else(|| DEFAULTS.get(key.name())).and_then(T::of);
    value.or_else(T::unset).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{
        FileLayer, Layers, LogLevel, OnFailure, core_row, example,
        groups::{Field, fields},
        keys,
        schema::SHA256,
    };

    /// Accepted for old scripts, without effect.
    const UNREAD: [Key; 1] = [keys::DISABLE_TELEMETRY];

    #[test]
    fn every_setting_of_the_table_is_read_into_one_field() {
        let fields = fields();
        for row in core_rows().iter().filter(|row| row.after.is_none()) {
            let count = fields.iter().filter(|field| field.key == *row).count();
            let unread = UNREAD.iter().any(|key| *key == *row) || row.unsupported.is_some();
            assert_eq!(count, usize::from(!unread), "{}", row.key());
        }
    }

    #[test]
    fn every_field_takes_the_values_that_its_row_permits() {
        for Field { key, optional, takes } in fields() {
            let row = core_row(key.name()).unwrap();
            let setting = &row.setting;
            assert!(optional || DEFAULTS.contains_key(key.name()), "{key} has no default");
            let texts = match setting.pattern.as_str() {
                "" if setting.choices.is_empty() => vec![example(row).unwrap_or("text").to_owned()],
                "" => setting.choices.clone(),
                SHA256 => vec!["0a".repeat(32)],
                _ => vec!["text".to_owned()],
            };
            for text in texts {
                let value = parse_text(setting, &text).unwrap().unwrap();
                assert!(takes(&value), "{key}: {text}");
            }
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
