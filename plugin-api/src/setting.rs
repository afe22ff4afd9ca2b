//! Settings: rows that a provider declares, values that it receives, secrets that stay dark.
//!
//! Command-line flags, environment names, configuration keys, help, documentation and masking are all
//! read from the rows. A provider never reads the command line or its configuration itself.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Error, Result};

/// How a setting's text is understood, and the JSON type a provider receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SettingKind {
    /// Whole number ≥ 0 → number.
    Integer,
    /// `yes true on 1` / `no false off 0` → boolean. Takes a value word on the command line.
    Boolean,
    /// Boolean whose mere flag on the command line means true.
    Switch,
    /// YAML list, JSON list text, or the path of a `.json`/`.yml`/`.yaml` file → array.
    List,
    /// YAML map, JSON object text, or the path of a file → object.
    Map,
    /// Path of a file or directory; relative to the working directory → string.
    Path,
    /// Number of bytes with an optional suffix `KiB MiB GiB TiB` (also `K M G T`) → number.
    Size,
    /// Number of seconds with an optional suffix `s m h` → number of seconds.
    Duration,
    /// Any text → string. Unknown kinds are read as this one.
    #[default]
    #[serde(other)]
    Text,
}

/// One row of a provider's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Setting {
    /// Upper-case key, words joined by `_`: `ALIBABA_BUCKET`.
    pub key: String,
    /// What it is, one sentence without a full stop.
    pub summary: String,
    /// How its text is understood.
    pub kind: SettingKind,
    /// Regular expression the whole text must match; empty = anything.
    pub pattern: String,
    /// Words it may be; empty = anything.
    pub choices: Vec<String>,
    /// Text used when nobody sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Must be set (not for builds that stop before the upload).
    pub required: bool,
    /// Never shown, never in the settings document; read it with [`crate::Context::secret`].
    pub secret: bool,
    /// Settable but not shown in help.
    pub hidden: bool,
    /// Heading under which help shows it; empty = the provider's name.
    pub group: String,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

impl Setting {
    /// A row for `key`.
    #[must_use]
    pub fn new(key: &str, kind: SettingKind, summary: &str) -> Self {
        Self { key: key.to_owned(), summary: summary.to_owned(), kind, ..Self::default() }
    }

    /// Must be set.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Never shown.
    #[must_use]
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Not shown in help.
    #[must_use]
    pub fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Used when nobody sets it.
    #[must_use]
    pub fn default_value(mut self, text: &str) -> Self {
        self.default = Some(text.to_owned());
        self
    }

    /// Must match the whole expression.
    #[must_use]
    pub fn pattern(mut self, expression: &str) -> Self {
        self.pattern = expression.to_owned();
        self
    }

    /// Must be one of these words.
    #[must_use]
    pub fn choices(mut self, words: &[&str]) -> Self {
        self.choices = words.iter().map(|&word| word.to_owned()).collect();
        self
    }
}

/// The values of a provider's settings, by key, already checked against its rows. Unset keys are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings {
    values: BTreeMap<String, Value>,
}

impl Settings {
    /// Settings from JSON values by key (for hosts and tests).
    #[must_use]
    pub fn from_values(values: BTreeMap<String, Value>) -> Self {
        Self { values }
    }

    /// The text of a `Text` or `Path` setting.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).and_then(Value::as_str)
    }

    /// The text of a setting that must be there.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] naming the key when it is unset.
    pub fn require(&self, key: &str) -> Result<&str> {
        self.text(key).ok_or_else(|| {
            Error::config(format!("`{key}` is not set"))
                .with_hint(format!("set {key} in the configuration file or the environment"))
        })
    }

    /// The value of an `Integer`, `Size` (bytes) or `Duration` (seconds) setting.
    #[must_use]
    pub fn integer(&self, key: &str) -> Option<u64> {
        self.values.get(key).and_then(Value::as_u64)
    }

    /// The value of a `Boolean` or `Switch` setting; unset is false.
    #[must_use]
    pub fn boolean(&self, key: &str) -> bool {
        self.values.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The value of a `List` or `Map` setting, as the author's own type; unset is its default.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] naming the key when the value has another shape.
    pub fn parsed<T: DeserializeOwned + Default>(&self, key: &str) -> Result<T> {
        let Some(value) = self.values.get(key) else { return Ok(T::default()) };
        T::deserialize(value).map_err(|error| {
            Error::config(format!("`{key}` does not have the expected shape")).caused_by(&error)
        })
    }

    /// Whether a key has a value.
    #[must_use]
    pub fn is_set(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }
}

/// A text that must not be shown. It has no `Display`, its `Debug` is masked, and its memory is
/// overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(zeroize::Zeroizing<String>);

impl Secret {
    /// Keeps `text` dark.
    pub fn new(text: impl Into<String>) -> Self {
        Self(zeroize::Zeroizing::new(text.into()))
    }

    /// The text itself. Use it where it is needed and nowhere else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_in_debug_output() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
    }

    #[test]
    fn an_unknown_kind_is_read_as_text() {
        let row: Setting = serde_json::from_str(r#"{"key":"A","kind":"colour","new":1}"#).unwrap();
        assert_eq!((row.key.as_str(), row.kind), ("A", SettingKind::Text));
    }

    #[test]
    fn a_value_of_another_shape_names_its_key() {
        let settings = Settings::from_values([("K".to_owned(), Value::from("x"))].into());
        let error = settings.parsed::<Vec<u64>>("K").unwrap_err();
        assert!(error.message.contains("`K`"), "{error}");
        assert!(settings.parsed::<Vec<u64>>("ABSENT").unwrap().is_empty());
    }
}
