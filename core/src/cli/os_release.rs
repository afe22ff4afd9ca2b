//! Reads the name and the identifiers of a Linux system: os-release(5).

use std::fs;

use crate::settings::Environment;

/// Paths of the file; the first readable one is used.
const PLACES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
/// Variable that names another file, as systemd's programs interpret it.
const VARIABLE: &str = "SYSTEMD_OS_RELEASE";

/// The text of an os-release file.
#[derive(Clone, Debug, Default)]
pub(super) struct OsRelease(String);

impl OsRelease {
    /// Reads the file of this system; empty where none exists.
    pub(super) fn read(environment: &Environment) -> Self {
        let named = environment.get(VARIABLE).map(fs::read_to_string);
        let mut places = PLACES.iter().map(fs::read_to_string);
        let text = named.unwrap_or_else(|| places.find_map(Result::ok).ok_or_else(absent));
        Self(text.unwrap_or_default())
    }

    /// Wraps a text, for tests.
    #[cfg(test)]
    pub(super) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    fn value(&self, key: &str) -> Option<&str> {
        let mut lines = self.0.lines().filter_map(|line| line.split_once('='));
        let (_, value) = lines.find(|(name, _)| name.trim() == key)?;
        Some(value.trim().trim_matches(['"', '\'']))
    }

    /// Returns the name of the system for humans.
    pub(super) fn pretty_name(&self) -> Option<&str> {
        self.value("PRETTY_NAME")
    }

    /// Returns its identifier and those of similar systems, closest first.
    pub(super) fn ids(&self) -> Vec<&str> {
        let like = self.value("ID_LIKE").unwrap_or_default().split_whitespace();
        self.value("ID").into_iter().chain(like).collect()
    }
}

fn absent() -> std::io::Error {
    std::io::ErrorKind::NotFound.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_read_with_and_without_quotes() {
        for text in ["ID=x\nPRETTY_NAME=\"A Linux 1\"\n", "PRETTY_NAME='A Linux 1'"] {
            assert_eq!(OsRelease::of(text).pretty_name(), Some("A Linux 1"));
        }
        assert_eq!(OsRelease::of("NAME=x").pretty_name(), None);
        let system = OsRelease::of("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n");
        assert_eq!(system.ids(), ["rocky", "rhel", "centos", "fedora"]);
    }
}
