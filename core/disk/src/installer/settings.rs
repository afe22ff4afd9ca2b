//! Holds the settings that an installer receives: values by key, already parsed by the kind of their rows.

use std::collections::BTreeMap;

use serde_json::Value as Json;

/// A value with its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The value, typed by its row.
    pub json: Json,
    /// Where it was set, for messages.
    pub origin: String,
}

/// Values by key; unset keys are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<String, Value>,
}

impl Settings {
    /// Returns a value with its origin.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Returns the JSON value of a setting.
    #[must_use]
    pub fn json(&self, key: &str) -> Option<&Json> {
        self.get(key).map(|value| &value.json)
    }

    /// Returns the text of a setting.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.json(key).and_then(Json::as_str)
    }

    /// Returns the number of a setting: bytes of a size, seconds of a duration.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.json(key).and_then(Json::as_u64)
    }

    /// Returns whether a switch is on.
    #[must_use]
    pub fn is_on(&self, key: &str) -> bool {
        self.json(key).and_then(Json::as_bool).unwrap_or(false)
    }
}

impl FromIterator<(String, Value)> for Settings {
    fn from_iter<T: IntoIterator<Item = (String, Value)>>(values: T) -> Self {
        Self { values: values.into_iter().collect() }
    }
}

/// Interprets texts inside values as the engine does for settings that are paths.
pub trait Lookup {
    /// Resolves a path: `~` and relative paths.
    ///
    /// # Errors
    /// The problem, as a fragment.
    fn resolve(&self, text: &str) -> Result<String, String>;

    /// Returns the URL of a text that is one; `None` for a file.
    ///
    /// # Errors
    /// The problem, as a fragment.
    fn url(&self, text: &str) -> Result<Option<String>, String>;

    /// Formats a text for messages: without passwords and signatures of URLs.
    fn redacted(&self, text: &str) -> String;
}
