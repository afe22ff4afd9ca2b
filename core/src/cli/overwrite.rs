//! Refuses to write a result in the place of a file that the build reads, or of another result.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use build_image_plugin_api::SettingKind;

use crate::{
    error::{Error, Result, Stage},
    report::ResultFile,
    settings::{Resolved, Row},
};

/// The setting of the result document; a text that names a directory means a file in it.
pub(super) const RESULT: &str = "OUTPUT_JSON_FILE";
/// Settings that name files a build writes.
const WRITTEN: [&str; 3] = [RESULT, "PROVENANCE_FILE", "LOG_FILE"];

/// Compares the files that a build writes with those that its other settings name.
///
/// # Errors
/// Names both settings.
pub(super) fn check(settings: &Resolved, rows: &[Row]) -> Result<()> {
    let paths: Vec<(&str, PathBuf)> = rows
        .iter()
        .filter(|row| row.setting.kind == SettingKind::Path)
        .filter_map(|row| Some((row.key(), named(settings, row.key())?)))
        .collect();
    for (key, path) in paths.iter().filter(|(key, _)| WRITTEN.contains(key)) {
        let others = paths.iter().filter(|(other, _)| other != key);
        if let Some((other, _)) = others.clone().find(|(_, other)| is_one_file(path, other)) {
            let text = format!("{key} and {other} name one file, `{}`", path.display());
            return Err(Error::new(Stage::Settings, text)
                .hint(format!("set {key} to a file that is to be written")));
        }
    }
    Ok(())
}

fn named(settings: &Resolved, key: &str) -> Option<PathBuf> {
    let path = match settings.text(key)? {
        text if key == RESULT => ResultFile::named(text).path().to_owned(),
        text => PathBuf::from(text),
    };
    settings.absolute(&path).ok()
}

/// Whether both lead to one file; directories may be shared.
fn is_one_file(left: &Path, right: &Path) -> bool {
    match (fs::metadata(left), fs::metadata(right)) {
        (Ok(left), Ok(right)) => {
            left.is_file() && (left.dev(), left.ino()) == (right.dev(), right.ino())
        }
        (Err(_), Err(_)) => left == right,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Layers, core_rows};

    #[test]
    fn results_take_the_place_of_no_file_that_another_setting_names() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        for name in ["disk.raw", "key.pem", "older.json"] {
            fs::write(at(name), "content").unwrap();
        }
        fs::hard_link(at("disk.raw"), at("linked.json")).unwrap();
        std::os::unix::fs::symlink(at("key.pem"), at("link.json")).unwrap();
        for (typed, refused) in [
            (vec![("DISK", "disk.raw"), ("OUTPUT_JSON_FILE", "linked.json")], true),
            (vec![("DISK", "disk.raw"), ("PROVENANCE_FILE", "disk.raw")], true),
            (vec![("IMAGE_SIG_PRIVATE_KEY", "key.pem"), ("OUTPUT_JSON_FILE", "link.json")], true),
            (vec![("PROVENANCE_FILE", "new.json"), ("OUTPUT_JSON_FILE", "new.json")], true),
            (vec![("LOG_FILE", "disk.raw"), ("DISK", "disk.raw")], true),
            (vec![("PROVENANCE_FILE", "older.json"), ("OUTPUT_JSON_FILE", "new.json")], false),
            (vec![("LOG_FILE", ""), ("IMAGE_DIR", "")], false),
            (vec![("DISK", "disk.raw"), ("PROVENANCE_FILE", "new.json")], false),
        ] {
            let typed = typed.iter().map(|(key, name)| ((*key).to_owned(), at(name)));
            let layers = Layers { command_line: typed.collect(), ..Layers::default() };
            let rows = core_rows();
            let settings = layers.resolve(&rows).unwrap();
            assert_eq!(check(&settings, &rows).is_err(), refused, "{:?}", layers.command_line);
        }
    }
}
