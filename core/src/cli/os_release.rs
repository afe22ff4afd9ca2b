//! What a Linux system says of itself: os-release(5).

use std::fs;

use crate::settings::Environment;

/// Places of the file, the first that can be read counts.
const PLACES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
/// Names another file, as systemd's own programs understand it.
const VARIABLE: &str = "SYSTEMD_OS_RELEASE";

/// The text of an os-release file.
#[derive(Clone, Debug, Default)]
pub(super) struct OsRelease(String);

impl OsRelease {
    /// Of this system; empty where there is none.
    pub(super) fn read(environment: &Environment) -> Self {
        let named = environment.get(VARIABLE).map(fs::read_to_string);
        let mut places = PLACES.iter().map(fs::read_to_string);
        let text = named.unwrap_or_else(|| places.find_map(Result::ok).ok_or_else(absent));
        Self(text.unwrap_or_default())
    }

    /// Of a text.
    #[cfg(test)]
    pub(super) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    fn value(&self, key: &str) -> Option<&str> {
        let mut lines = self.0.lines().filter_map(|line| line.split_once('='));
        let (_, value) = lines.find(|(name, _)| name.trim() == key)?;
        Some(value.trim().trim_matches(['"', '\'']))
    }

    /// What it is called.
    pub(super) fn pretty_name(&self) -> Option<&str> {
        self.value("PRETTY_NAME")
    }

    /// Its identifier and those of the systems it is like, nearest first.
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
    fn the_system_says_its_name_with_or_without_quotes() {
        for text in ["ID=x\nPRETTY_NAME=\"A Linux 1\"\n", "PRETTY_NAME='A Linux 1'"] {
            assert_eq!(OsRelease::of(text).pretty_name(), Some("A Linux 1"));
        }
        assert_eq!(OsRelease::of("NAME=x").pretty_name(), None);
        let system = OsRelease::of("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n");
        assert_eq!(system.ids(), ["rocky", "rhel", "centos", "fedora"]);
    }
}
