//! Reads the environment; nothing else in this crate does. Tests provide their own variables and directories.

#[cfg(test)]
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Environment variables and the directories in which configuration files are searched.
#[derive(Clone, Debug, Default)]
pub(crate) enum Environment {
    /// Those of this process.
    #[default]
    Process,
    /// Those of a test; the only directory is the second value.
    #[cfg(test)]
    Of(BTreeMap<String, String>, PathBuf),
}

impl Environment {
    /// Returns a variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let value = match self {
            Self::Process => process(name),
            #[cfg(test)]
            Self::Of(map, _) => map.get(name).cloned(),
        };
        value.filter(|text| !text.is_empty())
    }

    /// Returns the directories in the order in which openstacksdk searches them (`openstack.config.loader`,
    /// CONFIG_SEARCH_PATH). The first is the working directory.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        #[cfg(test)]
        if let Self::Of(_, directory) = self {
            return vec![directory.clone()];
        }
        let home = self.get("HOME").map(PathBuf::from);
        let below = |name: &str| self.get(name).map(|text| PathBuf::from(text).join("openstack"));
        let own = home.map(|home| home.join(".config/openstack"));
        let site = self.get("XDG_CONFIG_DIRS").unwrap_or_else(|| "/etc/xdg".to_owned());
        let site = site
            .split(':')
            .filter(|text| !text.is_empty())
            .map(|text| PathBuf::from(text).join("openstack"));
        let mut found: Vec<PathBuf> = Vec::new();
        for directory in std::iter::once(PathBuf::from("."))
            .chain(below("XDG_CONFIG_HOME"))
            .chain(own)
            .chain(site)
            .chain(std::iter::once(PathBuf::from("/etc/openstack")))
        {
            if !found.contains(&directory) {
                found.push(directory);
            }
        }
        found
    }
}

#[expect(clippy::disallowed_methods, reason = "all access to the environment goes through here")]
fn process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
