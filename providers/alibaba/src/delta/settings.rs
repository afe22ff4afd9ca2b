//! Declares and reads the settings of delta uploads.

use build_image_plugin_api::{Disk, DiskFormat, Error, Result, Setting, SettingKind, Settings};

use crate::config::Config;

const MODE: &str = "ALIBABA_UPLOAD_DELTA";
pub(super) const BASE: &str = "ALIBABA_UPLOAD_DELTA_BASE";
/// Maximum length of an object key in bytes.
const KEY_BYTES: usize = 1023;

/// The settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(super) is_on: bool,
    /// Key of the object to copy from, when the user names one.
    pub(super) base: Option<String>,
}

/// The rows of the settings.
pub(crate) fn settings() -> Vec<Setting> {
    vec![
        Setting::new(
            MODE,
            SettingKind::Text,
            "Send only what changed since an earlier raw disk that was kept in the bucket: `auto` with ALIBABA_KEEP_OSS_OBJECT or a named base, or `off`",
        )
        .choices(&["auto", "off"])
        .default_value("auto"),
        Setting::new(
            BASE,
            SettingKind::Text,
            "Object of the bucket that unchanged parts are copied from; unset: the newest kept disk of the same family or name",
        ),
    ]
}

impl Options {
    /// Reads the settings.
    ///
    /// # Errors
    /// Config errors for a base that is not an object of the bucket.
    pub(crate) fn read(settings: &Settings, bucket: Option<&str>) -> Result<Self> {
        let base = settings.text(BASE).filter(|text| !text.is_empty());
        let base = base.map(|text| key(text, bucket)).transpose()?;
        Ok(Self { is_on: settings.text(MODE) != Some("off"), base })
    }

    /// Whether a build looks for an earlier object, or leaves a manifest for the next one.
    pub(crate) fn is_used(config: &Config) -> bool {
        let Self { is_on, base } = &config.delta;
        *is_on && config.disk.format == DiskFormat::Raw && (config.keep_object || base.is_some())
    }

    /// The same, for a disk that exists.
    pub(super) fn is_used_for(config: &Config, disk: &Disk) -> bool {
        Self::is_used(config) && disk.spec.format == DiskFormat::Raw && disk.length.is_some()
    }
}

/// The key in `KEY` or `oss://BUCKET/KEY`.
fn key(text: &str, bucket: Option<&str>) -> Result<String> {
    let invalid = |why: String| {
        Err(Error::config(format!("`{BASE}` is `{text}`: {why}"))
            .with_hint("name an object of ALIBABA_BUCKET by its key, or as oss://BUCKET/KEY"))
    };
    let key =
        match text.strip_prefix("oss://").map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
            None => text,
            Some((named, _)) if bucket.is_some_and(|bucket| bucket != named) => {
                let bucket = bucket.unwrap_or_default();
                return invalid(format!(
                    "bucket `{named}` is not `{bucket}`, the bucket of the upload"
                ));
            }
            Some((_, key)) => key,
        };
    if key.is_empty() || key.len() > KEY_BYTES || key.starts_with(['/', '\\']) {
        return invalid("that is not the key of an object".to_owned());
    }
    if key.contains(char::is_control) {
        return invalid("it contains control characters".to_owned());
    }
    Ok(key.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(base: &str) -> Result<Options> {
        let values = [(BASE.to_owned(), json!(base))];
        Options::read(&Settings::from_values(values.into()), Some("demo"))
    }

    #[test]
    fn a_base_is_an_object_of_the_bucket() {
        for (text, key) in [("a/b.raw", "a/b.raw"), ("oss://demo/a/b.raw", "a/b.raw")] {
            assert_eq!(read(text).unwrap().base.as_deref(), Some(key));
        }
        assert_eq!(read("").unwrap(), Options { is_on: true, base: None });
        for text in
            ["oss://other/k", "oss://demo", "oss://demo/", "/k", "\\k", "a\nb", &"k".repeat(1024)]
        {
            let error = read(text).unwrap_err();
            assert!(error.message.contains(BASE) && error.hint.is_some(), "{error}");
        }
        assert!(read("oss://other/k").unwrap_err().message.contains("`other` is not `demo`"));
    }
}
