//! Warns of secrets that other users of the host can read: on the command line, or in a configuration file.

use std::collections::BTreeMap;

use crate::{
    report::Reporter,
    settings::{Entry, FileLayer, PREFIX, Row},
    trust::exposure,
};

/// Warns, on every run, when a file contains secrets and other users can access it.
pub(super) fn warn_of_file(file: &FileLayer, rows: &[Row], reporter: &Reporter) {
    let is_secret = |key: &str| rows.iter().any(|row| row.setting.secret && row.key() == key);
    let is_secret_entry = |(key, entry): &(String, Entry)| {
        is_secret(key) && !entry.value.is_null() && entry.value.as_str() != Some("")
    };
    if !file.entries.iter().any(is_secret_entry) {
        return;
    }
    // A file that cannot be examined, such as a pipe, has no other readers.
    if let Ok(Some(why)) = exposure(&file.path) {
        let path = file.path.display();
        reporter.warning(
            &format!("`{path}` holds secrets, and {why}"),
            Some(&format!("chmod 600 '{path}'")),
        );
    }
}

/// Warns, on every run, of secrets on the command line, which every user of the host can list.
pub(super) fn warn_of_arguments(
    texts: &BTreeMap<String, String>,
    rows: &[Row],
    reporter: &Reporter,
) {
    let is_typed = |row: &&Row| row.setting.secret && texts.contains_key(row.key());
    for row in rows.iter().filter(is_typed) {
        let key = row.key();
        let hint =
            format!("set {PREFIX}{key} in the environment, or {key} in the configuration file");
        let text = format!("other users of this host can read the value of --{}", row.long());
        reporter.warning(&text, Some(&hint));
    }
}
