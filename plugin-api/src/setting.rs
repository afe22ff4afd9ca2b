//! Defines settings: rows that a provider declares, values that it receives, secrets that are redacted.
//!
//! Command-line flags, environment names, configuration keys, help, documentation and redaction are all derived
//! from the rows. A provider never reads the command line or its configuration.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Error, Result};

/// How the text of a setting is parsed, and the JSON type that a provider receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SettingKind {
    /// Whole number ≥ 0 → number.
    Integer,
    /// `yes true on 1` / `no false off 0` → boolean. Requires a value on the command line.
    Boolean,
    /// Boolean that is true when the flag is given without a value.
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
    /// Any text → string. Unknown kinds are read as this variant.
    #[default]
    #[serde(other)]
    Text,
}

/// One row of a provider's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Setting {
    /// Upper-case key, words joined by `_`: `ALIBABA_BUCKET`.
    pub key: String,
    /// Description, one sentence without a full stop.
    pub summary: String,
    /// How its text is parsed.
    pub kind: SettingKind,
    /// Regular expression that the whole text must match; empty = anything.
    pub pattern: String,
    /// Allowed values; empty = anything.
    pub choices: Vec<String>,
    /// Text used when the setting is not set.
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
    /// Refused in a configuration file that was found in the working directory and not named by the user: it decides
    /// what runs, which keys count, or where data and credentials are sent. Since ABI 1.1.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub explicit_only: bool,
}

impl Setting {
    /// Creates a row for `key`.
    #[must_use]
    pub fn new(key: &str, kind: SettingKind, summary: &str) -> Self {
        Self { key: key.to_owned(), summary: summary.to_owned(), kind, ..Self::default() }
    }

    /// Makes the setting required.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Makes the setting a secret, which is never shown.
    #[must_use]
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Hides the setting from help.
    #[must_use]
    pub fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Refuses the setting in a configuration file that the user did not name, for endpoints and the like.
    #[must_use]
    pub fn explicit_only(mut self) -> Self {
        self.explicit_only = true;
        self
    }

    /// Sets the text that is used when the setting is not set.
    #[must_use]
    pub fn default_value(mut self, text: &str) -> Self {
        self.default = Some(text.to_owned());
        self
    }

    /// Sets the heading under which help shows it, in place of the provider's name.
    #[must_use]
    pub fn group(mut self, heading: &str) -> Self {
        self.group = heading.to_owned();
        self
    }

    /// Sets the regular expression that the whole text must match.
    #[must_use]
    pub fn pattern(mut self, expression: &str) -> Self {
        self.pattern = expression.to_owned();
        self
    }

    /// Sets the allowed values.
    #[must_use]
    pub fn choices(mut self, words: &[&str]) -> Self {
        self.choices = words.iter().map(|&word| word.to_owned()).collect();
        self
    }
}

/// The values of a provider's settings by key, already validated against its rows. Unset keys are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings {
    values: BTreeMap<String, Value>,
}

impl Settings {
    /// Creates settings from JSON values by key (for hosts and tests).
    #[must_use]
    pub fn from_values(values: BTreeMap<String, Value>) -> Self {
        Self { values }
    }

    /// Checks that the value of each declared setting has the type of its row. A value of null counts as unset.
    pub(crate) fn checked(mut self, rows: &[Setting]) -> Result<Self> {
        self.values.retain(|_, value| !value.is_null());
        for row in rows {
            let Some(value) = self.values.get(&row.key) else { continue };
            let (fits, wanted) = match row.kind {
                SettingKind::Integer | SettingKind::Size | SettingKind::Duration => {
                    (value.is_u64(), "a whole number, 0 or more")
                }
                SettingKind::Boolean | SettingKind::Switch => (value.is_boolean(), "a boolean"),
                SettingKind::List => (value.is_array(), "a list"),
                SettingKind::Map => (value.is_object(), "a map"),
                SettingKind::Text | SettingKind::Path => (value.is_string(), "a text"),
            };
            if !fits {
                let found = type_name(value);
                return Err(Error::config(format!("`{}` is {found}, not {wanted}", row.key)));
            }
        }
        Ok(self)
    }

    /// Returns a value as the type that its reader expects.
    fn typed<'a, T>(&'a self, key: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        let value = self.values.get(key)?;
        let Some(typed) = read(value) else {
            panic!(
                "the provider reads `{key}` as another type than its row declares: {}",
                type_name(value)
            )
        };
        Some(typed)
    }

    /// Returns the text of a `Text` or `Path` setting; `None` when it is unset.
    ///
    /// # Panics
    /// When the setting has another kind: a bug of the provider.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.typed(key, Value::as_str)
    }

    /// Returns the text of a setting that must be set.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] naming the key when it is unset.
    ///
    /// # Panics
    /// When the setting is neither `Text` nor `Path`: a bug of the provider.
    pub fn require(&self, key: &str) -> Result<&str> {
        self.text(key).ok_or_else(|| {
            Error::config(format!("`{key}` is not set"))
                .with_hint(format!("set {key} in the configuration file or the environment"))
        })
    }

    /// Returns the value of an `Integer`, `Size` (bytes) or `Duration` (seconds) setting; `None` when it is unset.
    ///
    /// # Panics
    /// When the setting has another kind: a bug of the provider.
    #[must_use]
    pub fn integer(&self, key: &str) -> Option<u64> {
        self.typed(key, Value::as_u64)
    }

    /// Returns the value of a `Boolean` or `Switch` setting; false when it is unset.
    ///
    /// # Panics
    /// When the setting has another kind: a bug of the provider.
    #[must_use]
    pub fn boolean(&self, key: &str) -> bool {
        self.typed(key, Value::as_bool).unwrap_or(false)
    }

    /// Returns the value of a `List` or `Map` setting as a type of the author; its default when it is unset.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] naming the key when the value has another shape.
    pub fn parsed<T: DeserializeOwned + Default>(&self, key: &str) -> Result<T> {
        let Some(value) = self.values.get(key) else { return Ok(T::default()) };
        T::deserialize(value).map_err(|error| {
            Error::config(format!("`{key}` does not have the expected shape")).caused_by(&error)
        })
    }

    /// Returns whether a key has a value.
    #[must_use]
    pub fn is_set(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }
}

/// Returns the type of a JSON value, with its article. The value itself is not shown.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// A text that must not be shown. It has no `Display`, its `Debug` output is redacted, and its memory is
/// overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(zeroize::Zeroizing<String>);

impl Secret {
    /// Hosts do not redact shorter values, in bytes: they would match unrelated text.
    pub const SHORTEST_REDACTED: usize = 6;

    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(zeroize::Zeroizing::new(text.into()))
    }

    /// Returns the text. Call it only where the value is needed.
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
    fn a_secret_is_redacted_in_debug_output() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
    }

    #[test]
    fn an_unknown_kind_is_read_as_text() {
        let row: Setting = serde_json::from_str(r#"{"key":"A","kind":"colour","new":1}"#).unwrap();
        assert_eq!((row.key.as_str(), row.kind), ("A", SettingKind::Text));
    }

    #[test]
    fn values_have_the_type_that_their_row_declares() {
        use SettingKind::{Boolean, Duration, Integer, List, Map, Path, Size, Switch, Text};
        let values = [
            (serde_json::json!(1), &[Integer, Size, Duration][..]),
            (serde_json::json!(true), &[Boolean, Switch]),
            (serde_json::json!("1"), &[Text, Path]),
            (serde_json::json!([]), &[List]),
            (serde_json::json!({}), &[Map]),
            (serde_json::json!(-1), &[]),
            (serde_json::json!(1.5), &[]),
        ];
        for (value, fit) in values {
            for kind in [Integer, Boolean, Switch, List, Map, Path, Size, Duration, Text] {
                let settings = Settings::from_values([("K".to_owned(), value.clone())].into());
                let checked = settings.checked(&[Setting::new("K", kind, "a setting")]);
                assert_eq!(checked.is_ok(), fit.contains(&kind), "{value} as {kind:?}");
                assert!(checked.err().is_none_or(|error| error.message.contains("`K` is a")));
            }
        }
        let unset = Settings::from_values([("K".to_owned(), Value::Null)].into());
        let unset = unset.checked(&[Setting::new("K", Integer, "a setting")]).unwrap();
        assert!(!unset.is_set("K") && unset.integer("K").is_none());
    }

    #[test]
    #[should_panic(expected = "the provider reads `K` as another type")]
    fn a_number_is_not_an_unset_text() {
        let _ = Settings::from_values([("K".to_owned(), Value::from(1))].into()).text("K");
    }

    #[test]
    fn a_value_of_another_shape_names_its_key() {
        let settings = Settings::from_values([("K".to_owned(), Value::from("x"))].into());
        let error = settings.parsed::<Vec<u64>>("K").unwrap_err();
        assert!(error.message.contains("`K`"), "{error}");
        assert!(settings.parsed::<Vec<u64>>("ABSENT").unwrap().is_empty());
    }
}
