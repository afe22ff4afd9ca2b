//! Reads the environment; nothing else in this crate does. Tests provide their own variables.

#[cfg(test)]
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Environment variables.
#[derive(Clone, Debug, Default)]
pub(crate) enum Environment {
    /// The variables of this process.
    #[default]
    Process,
    /// The variables of a test.
    #[cfg(test)]
    Of(BTreeMap<String, String>),
}

impl Environment {
    /// A variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let value = match self {
            Self::Process => process(name),
            #[cfg(test)]
            Self::Of(map) => map.get(name).cloned(),
        };
        value.filter(|text| !text.is_empty())
    }

    /// Whether the value of a variable is `true`.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|text| text.eq_ignore_ascii_case("true") || text == "1")
    }

    /// A file below the user's home directory.
    pub(crate) fn in_home(&self, path: &str) -> Option<PathBuf> {
        let home = self.get("HOME").or_else(|| self.get("USERPROFILE"))?;
        Some(PathBuf::from(home).join(path))
    }
}

#[expect(clippy::disallowed_methods, reason = "all access to the environment goes through here")]
fn process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
