//! The environment, read in this file only.

use std::collections::BTreeMap;

/// Prefix of settings in the environment.
const PREFIX: &str = "F5_";
/// Settings whose plain name is too common in other people's environments: only `F5_…` counts.
const PREFIXED_ONLY: [&str; 6] = ["HELP", "VERSION", "INFO", "DOCS", "JSON", "QUIET"];

/// The process environment at start.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The environment of this process; variables that are not Unicode are left out.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self { variables: variables.collect() }
    }

    /// An environment for tests.
    #[must_use]
    pub fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        let owned = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { variables: owned.into() }
    }

    /// A variable that is set and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The part of it that started programs may see.
    #[must_use]
    pub fn for_children(&self) -> build_image_disk::process::Environment {
        let owned = self.variables.iter().map(|(name, value)| (name.into(), value.into()));
        build_image_disk::process::Environment::keep(owned)
    }

    /// The text of a setting and the variable it came from: `F5_<KEY>` before `<KEY>`.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<(String, &str)> {
        let prefixed = format!("{PREFIX}{key}");
        if let Some(text) = self.get(&prefixed) {
            return Some((prefixed, text));
        }
        if PREFIXED_ONLY.contains(&key) {
            return None;
        }
        self.get(key).map(|text| (key.to_owned(), text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefixed_name_wins_and_common_words_need_it() {
        let environment =
            Environment::of([("F5_ISO", "a"), ("ISO", "b"), ("VERSION", "9"), ("M", "")]);
        assert_eq!(environment.setting("ISO"), Some(("F5_ISO".to_owned(), "a")));
        assert_eq!(environment.setting("VERSION"), None);
        assert_eq!(environment.setting("M"), None);
    }
}
