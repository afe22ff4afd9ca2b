//! Warns of a configuration file with secrets that other users of the host can read or change.

use crate::{
    report::Reporter,
    settings::{Entry, FileLayer, Row},
    trust::exposure,
};

/// Warns, on every run, when a file contains secrets and other users can access it.
pub(super) fn warn(file: &FileLayer, rows: &[Row], reporter: &Reporter) {
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
