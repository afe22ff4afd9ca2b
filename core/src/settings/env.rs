//! Reads the environment; no other file does.

use std::{collections::BTreeMap, ffi::OsString, fmt, path::PathBuf};

use zeroize::Zeroizing;

use super::row::Row;

/// Prefix of settings in the environment.
pub(crate) const PREFIX: &str = "F5_";

/// The process environment at start.
#[derive(Clone, Default)]
pub struct Environment {
    /// Some are secrets: they are wiped when dropped. The copy that the kernel gave the process is not touched.
    variables: BTreeMap<String, Zeroizing<String>>,
}

/// Names only: values may be secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

impl Environment {
    /// The environment of this process; variables that are not Unicode are left out.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, Zeroizing::new(value.into_string().ok()?)))
        });
        Self { variables: variables.collect() }
    }

    /// An environment for tests.
    #[must_use]
    pub fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        let owned = variables.map(|(name, value)| (name.to_owned(), value.to_owned().into()));
        Self { variables: owned.into() }
    }

    /// Sets a variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned().into());
        self
    }

    /// Returns a variable that is set and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Returns the names of the variables that are set and not empty.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str).filter(|name| self.get(name).is_some())
    }

    /// Returns the directory for files that may be deleted at any time, from the XDG base directory specification.
    #[must_use]
    pub fn cache_directory(&self) -> Option<PathBuf> {
        let named = self.get("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let base = named.or_else(|| Some(PathBuf::from(self.get("HOME")?).join(".cache")))?;
        Some(base.join("build-image"))
    }

    /// Returns the variables that child processes may see.
    #[must_use]
    pub fn for_children(&self) -> build_image_disk::process::Environment {
        let owned = self.variables.iter().map(|(name, value)| (name.into(), value.as_str().into()));
        build_image_disk::process::Environment::keep(owned)
    }

    /// Returns the variables whose names match, for a child process.
    #[must_use]
    pub fn only(&self, predicate: impl Fn(&str) -> bool) -> Vec<(OsString, OsString)> {
        let variables = self.variables.iter().filter(|(name, _)| predicate(name));
        variables.map(|(name, value)| (name.into(), value.as_str().into())).collect()
    }

    /// Returns the text of a setting and the variable it came from: `F5_<KEY>` has priority over `<KEY>`, which is
    /// read only where the row permits it.
    #[must_use]
    pub fn setting(&self, row: &Row) -> Option<(String, &str)> {
        let key = row.key();
        let prefixed = format!("{PREFIX}{key}");
        if let Some(text) = self.get(&prefixed) {
            return Some((prefixed, text));
        }
        if row.prefixed_only {
            return None;
        }
        self.get(key).map(|text| (key.to_owned(), text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::core_rows;

    #[test]
    fn the_prefixed_name_wins_and_settings_the_old_tool_never_had_need_it() {
        let environment = Environment::of([
            ("F5_ISO", "a"),
            ("ISO", "b"),
            ("LOG_LEVEL", "debug"),
            ("DISK", "/dev/sda"),
            ("QEMU_MEMORY", "9"),
            ("ACCEL", "x"),
            ("SILENCE_TIMEOUT", "1"),
            ("PROVIDER_DIR", "/x"),
            ("JSON", "1"),
            ("F5_QUIET", "1"),
            ("INFO", "1"),
            ("IMAGE_DIR", ""),
        ]);
        let rows = core_rows();
        let read = rows.iter().filter_map(|row| environment.setting(row));
        let read: Vec<(String, &str)> = read.collect();
        let owned = |name: &str, text| (name.to_owned(), text);
        assert_eq!(
            read,
            [owned("F5_ISO", "a"), owned("LOG_LEVEL", "debug"), owned("F5_QUIET", "1")]
        );
    }

    #[test]
    fn the_cache_directory_follows_the_xdg_specification() {
        for (variables, directory) in [
            ([("XDG_CACHE_HOME", "/c"), ("HOME", "/h")], Some("/c/build-image")),
            ([("XDG_CACHE_HOME", "relative"), ("HOME", "/h")], Some("/h/.cache/build-image")),
            ([("XDG_CACHE_HOME", ""), ("HOME", "")], None),
        ] {
            assert_eq!(Environment::of(variables).cache_directory(), directory.map(PathBuf::from));
        }
    }

    #[test]
    fn debug_output_shows_names_only() {
        let debug = format!("{:?}", Environment::of([("TOKEN", "hunter2")]));
        assert!(debug.contains("TOKEN") && !debug.contains("hunter2"), "{debug}");
    }
}
