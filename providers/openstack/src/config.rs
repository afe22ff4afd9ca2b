//! Parses the settings into types. It makes no requests; `check` verifies the values against the cloud.

use std::{collections::BTreeSet, time::Duration};

use build_image_plugin_api::{DiskSpec, Error, Result, Settings};

use crate::{disk, properties::Wanted};

/// Everything that the user configured.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// What the settings say about the cloud and the user; the rest comes from files and variables.
    pub(crate) identity: Identity,
    /// The uploaded disk.
    pub(crate) disk: DiskSpec,
    /// How the data is sent.
    pub(crate) method: UploadMethod,
    /// Store that receives the image.
    pub(crate) store: Option<String>,
    /// Further stores, each once.
    pub(crate) copy_stores: Vec<String>,
    /// Who may see the image.
    pub(crate) visibility: String,
    /// Projects it is shared with, each once.
    pub(crate) members: Vec<String>,
    /// Accepts the image in member projects.
    pub(crate) accept_members: bool,
    /// Protects the image against deletion.
    pub(crate) protected: bool,
    /// Leaves the image out of lists.
    pub(crate) hidden: bool,
    /// What happens to images of the same name.
    pub(crate) if_exists: IfExists,
    /// Properties that the settings request.
    pub(crate) wanted: Wanted,
    /// Longest time that the service may process the image.
    pub(crate) import_timeout: Duration,
    /// Attempts to send the disk.
    pub(crate) attempts: u32,
    /// Longest time without a byte moved.
    pub(crate) stall: Duration,
    /// Shortest time for which failed calls are repeated.
    pub(crate) retry_time: Duration,
}

/// Settings of cloud and user, as texts; secrets are requested from the host when they are needed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) cloud: Option<String>,
    pub(crate) config_file: Option<String>,
    /// Values that replace those of the cloud, by their names in clouds.yaml.
    pub(crate) values: Vec<(&'static str, String)>,
}

/// How the data is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UploadMethod {
    /// Import where the service offers it.
    Auto,
    /// Staged, then imported (`glance-direct`).
    Import,
    /// One stream.
    Put,
}

/// What happens to images of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfExists {
    /// Nothing.
    Keep,
    /// The build fails.
    Fail,
    /// They are hidden.
    Hide,
    /// They are hidden, and deleted after the release.
    Replace,
}

/// Settings with their names in clouds.yaml.
const NAMES: [(&str, &str); 12] = [
    ("OPENSTACK_AUTH_URL", "auth_url"),
    ("OPENSTACK_USERNAME", "username"),
    ("OPENSTACK_USER_DOMAIN_NAME", "user_domain_name"),
    ("OPENSTACK_PROJECT_NAME", "project_name"),
    ("OPENSTACK_PROJECT_ID", "project_id"),
    ("OPENSTACK_PROJECT_DOMAIN_NAME", "project_domain_name"),
    ("OPENSTACK_APPLICATION_CREDENTIAL_ID", "application_credential_id"),
    ("OPENSTACK_APPLICATION_CREDENTIAL_NAME", "application_credential_name"),
    ("OPENSTACK_REGION", "region_name"),
    ("OPENSTACK_INTERFACE", "interface"),
    ("OPENSTACK_CA_FILE", "cacert"),
    ("OPENSTACK_IMAGE_ENDPOINT", "image_endpoint_override"),
];

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// Config errors naming the key.
    pub(crate) fn read(settings: &Settings) -> Result<Self> {
        let text =
            |key: &str| settings.text(key).filter(|text| !text.is_empty()).map(str::to_owned);
        let seconds =
            |key: &str, otherwise| Duration::from_secs(settings.integer(key).unwrap_or(otherwise));
        let config = Self {
            identity: Identity {
                cloud: text("OPENSTACK_CLOUD"),
                config_file: text("OPENSTACK_CONFIG_FILE"),
                values: NAMES
                    .into_iter()
                    .filter_map(|(key, name)| Some((name, text(key)?)))
                    .collect(),
            },
            disk: disk::spec(settings)?,
            method: match settings.text("OPENSTACK_UPLOAD_METHOD") {
                Some("import") => UploadMethod::Import,
                Some("put") => UploadMethod::Put,
                _ => UploadMethod::Auto,
            },
            store: text("OPENSTACK_STORE"),
            copy_stores: words(settings, "OPENSTACK_COPY_STORES", "a store")?,
            visibility: text("OPENSTACK_VISIBILITY").unwrap_or_else(|| "private".to_owned()),
            members: words(settings, "OPENSTACK_MEMBERS", "a project's id")?,
            accept_members: settings.boolean("OPENSTACK_ACCEPT_MEMBERS"),
            protected: settings.boolean("OPENSTACK_PROTECTED"),
            hidden: settings.boolean("OPENSTACK_HIDDEN"),
            if_exists: match settings.text("OPENSTACK_IF_EXISTS") {
                Some("fail") => IfExists::Fail,
                Some("hide") => IfExists::Hide,
                Some("replace") => IfExists::Replace,
                _ => IfExists::Keep,
            },
            wanted: Wanted::read(settings)?,
            import_timeout: seconds("OPENSTACK_IMPORT_TIMEOUT", 3600),
            attempts: number(settings, "OPENSTACK_UPLOAD_ATTEMPTS", 5).max(1),
            stall: seconds("OPENSTACK_UPLOAD_STALL_TIMEOUT", 120),
            retry_time: seconds("OPENSTACK_RETRY_TIME", 60),
        };
        config.contradictions()?;
        Ok(config)
    }

    fn contradictions(&self) -> Result<()> {
        if !self.members.is_empty() && self.visibility != "shared" {
            return Err(Error::config(format!(
                "`OPENSTACK_MEMBERS` is set, and `OPENSTACK_VISIBILITY` is `{}`",
                self.visibility
            ))
            .with_hint("set OPENSTACK_VISIBILITY=shared, or unset OPENSTACK_MEMBERS"));
        }
        if let Some(store) = self.store.as_ref().filter(|store| self.copy_stores.contains(store)) {
            return Err(Error::config(format!(
                "store `{store}` is in `OPENSTACK_STORE` and in `OPENSTACK_COPY_STORES`"
            ))
            .with_hint("remove it from one of them"));
        }
        let auth_url = self.identity.values.iter().any(|(name, _)| *name == "auth_url");
        if auth_url && (self.identity.cloud.is_some() || self.identity.config_file.is_some()) {
            return Err(Error::config("`OPENSTACK_AUTH_URL` is set beside a cloud of clouds.yaml")
                .with_hint(
                    "set either OPENSTACK_AUTH_URL or OPENSTACK_CLOUD and OPENSTACK_CONFIG_FILE",
                ));
        }
        Ok(())
    }
}

fn number(settings: &Settings, key: &str, otherwise: u32) -> u32 {
    settings.integer(key).and_then(|value| u32::try_from(value).ok()).unwrap_or(otherwise)
}

/// Reads a list of words, each once.
fn words(settings: &Settings, key: &str, what: &str) -> Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut words = Vec::new();
    for value in settings.parsed::<Vec<serde_json::Value>>(key)? {
        let word = match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if word.is_empty() || word.len() > 255 || !word.chars().all(plain) {
            return Err(Error::config(format!("`{key}` has `{word}`, which is not {what}"))
                .with_hint("write letters, digits, `-`, `_`, and `.`"));
        }
        if seen.insert(word.clone()) {
            words.push(word);
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(values: &[(&str, Value)]) -> Result<Config> {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        Config::read(&Settings::from_values(values))
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        for (values, text) in [
            (vec![("OPENSTACK_MEMBERS", json!(["a"]))], "`private`"),
            (
                vec![("OPENSTACK_STORE", json!("a")), ("OPENSTACK_COPY_STORES", json!(["a"]))],
                "store `a`",
            ),
            (
                vec![("OPENSTACK_AUTH_URL", json!("http://h")), ("OPENSTACK_CLOUD", json!("a"))],
                "OPENSTACK_AUTH_URL",
            ),
            (vec![("OPENSTACK_MEMBERS", json!(["../a"]))], "a project's id"),
        ] {
            let error = read(&values).unwrap_err();
            assert!(error.message.contains(text), "{error}");
        }
    }

    #[test]
    fn each_member_counts_once() {
        let shared = ("OPENSTACK_VISIBILITY", json!("shared"));
        let config = read(&[shared, ("OPENSTACK_MEMBERS", json!(["a", "b", "a"]))]).unwrap();
        assert_eq!(config.members, ["a", "b"]);
    }
}
