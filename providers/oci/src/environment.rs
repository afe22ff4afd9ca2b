//! Reads the environment; nothing else in this crate does. Tests provide their own variables.

#[cfg(test)]
use std::collections::BTreeMap;

/// Environment variables.
#[derive(Clone, Debug, Default)]
pub(crate) enum Environment {
    /// Those of this process.
    #[default]
    Process,
    /// Those of a test.
    #[cfg(test)]
    Of(BTreeMap<String, String>),
}

impl Environment {
    /// Returns a variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let value = match self {
            Self::Process => process(name),
            #[cfg(test)]
            Self::Of(map) => map.get(name).cloned(),
        };
        value.filter(|text| !text.is_empty())
    }
}

#[expect(clippy::disallowed_methods, reason = "all access to the environment goes through here")]
fn process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
