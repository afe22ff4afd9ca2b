//! Finds the configuration file of the working directory, and decides what such a file may set.
//!
//! A file that the user names is trusted. One that is only found may have come with a cloned repository, and must not
//! choose what runs, which keys count, or where data and credentials are sent.

use std::path::{Component, Path, PathBuf};

use build_image_plugin_api::SettingKind;
use serde_json::Value;

use super::{file::FileLayer, home::names_file, row::Row, rows::core_row};
use crate::{
    error::{Error, Result, Stage},
    trust::doubt_of_path,
};

/// Name of the file.
pub const FOUND_FILE: &str = "build-image.yml";

/// Parts of the keys of providers' settings that name a server, for plugins that do not mark these settings.
const SERVERS: [&str; 5] = ["ENDPOINT", "URL", "URI", "HOST", "PROXY"];

/// Reads the configuration file of a directory (`None` = the working directory), if it has one.
///
/// # Errors
/// When it belongs to another user, when others can change it, when it is not a regular file, and as
/// [`FileLayer::read`].
pub(crate) fn find(directory: Option<&Path>) -> Result<Option<FileLayer>> {
    let path = directory.map_or_else(|| PathBuf::from(FOUND_FILE), |base| base.join(FOUND_FILE));
    let Ok(found) = path.symlink_metadata() else { return Ok(None) };
    let why = match doubt_of_path(&path) {
        _ if !found.is_file() => "it is not a regular file".to_owned(),
        Ok(Some(doubt)) => format!("it {}", doubt.why),
        Err(error) => error.to_string(),
        Ok(None) => {
            let layer = FileLayer::read(&path)?;
            return Ok(Some(FileLayer { found: true, ..layer }));
        }
    };
    let text = format!("`{}` is not used as configuration: {why}", path.display());
    Err(Error::new(Stage::Settings, text)
        .hint(format!("name it with -c {FOUND_FILE}, or use no file with -c /dev/null")))
}

/// Returns the line that names a file which was found and not named; `None` for a named one.
pub(crate) fn note(file: &FileLayer) -> Option<String> {
    let path = file.path.display();
    file.found.then(|| format!("   config  {path}, found here (-c names another one)"))
}

/// Returns why a found file must not set a value of this row; `None` when it may.
pub(super) fn refusal(row: &Row, value: &Value) -> Option<&'static str> {
    let setting = &row.setting;
    let is_server = core_row(row.key()).is_none()
        && setting.kind == SettingKind::Text
        && SERVERS.iter().any(|part| row.key().contains(part));
    if setting.secret {
        return Some("a secret");
    }
    if setting.explicit_only || is_server {
        return Some("what runs, which keys count, or where data is sent");
    }
    let text = value.as_str().filter(|_| setting.kind == SettingKind::Path)?;
    let leaves = |part: Component<'_>| !matches!(part, Component::Normal(_) | Component::CurDir);
    let outside = text.starts_with('~') || Path::new(text).components().any(leaves);
    (names_file(text) && outside).then_some("a path outside of its directory")
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::Setting;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_found_file_sets_nothing_that_needs_trust() {
        let path = Row::new(Setting::new("SOME_FILE", SettingKind::Path, "x"));
        let text = |key| Row::new(Setting::new(key, SettingKind::Text, "x"));
        for (row, value, refused) in [
            (&path, "out/disk.raw", false),
            (&path, "./disk.raw", false),
            (&path, "https://example.org/a/../disk.raw", false),
            (&path, "/etc/passwd", true),
            (&path, "~/.ssh/id_rsa", true),
            (&path, "../disk.raw", true),
            (&path, "out/../../disk.raw", true),
            (&text("ACME_BUCKET"), "../b", false),
            (&text("ACME_S3_ENDPOINT"), "x", true),
            (&text("ACME_AUTH_URL"), "x", true),
            (&Row::new(Setting::new("ACME_PIN", SettingKind::Text, "x").secret()), "1", true),
            (
                &Row::new(Setting::new("ACME_TLS", SettingKind::Text, "x").explicit_only()),
                "1",
                true,
            ),
        ] {
            let found = refusal(row, &json!(value));
            assert_eq!(found.is_some(), refused, "{} {value}", row.key());
        }
    }
}
