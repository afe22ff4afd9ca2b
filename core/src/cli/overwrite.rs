//! Refuses to overwrite a file that the build reads, or another result, with a result.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use build_image_plugin_api::SettingKind;

use crate::{
    error::{Error, Result, Stage},
    installers,
    report::ResultFile,
    settings::{Key, Resolved, Row, Written, keys},
};

/// The setting of the result document; a value that names a directory means a file in it.
const RESULT: Key = keys::OUTPUT_JSON_FILE;

/// Compares the files that a build writes with those that its other settings name, and with existing files. A disk
/// may consist of files that no setting names: a file that is not a JSON document is never replaced.
///
/// # Errors
/// Names the settings and the file.
pub(super) fn check(settings: &Resolved, rows: &[Row]) -> Result<()> {
    let mut paths: Vec<(&str, Option<Written>, PathBuf)> = rows
        .iter()
        .filter(|row| row.setting.kind == SettingKind::Path)
        .filter_map(|row| Some((row.key(), row.writes, named(settings, row)?)))
        .collect();
    let listed = installers::input_files(settings).into_iter();
    paths.extend(listed.map(|file| (file.key, None, file.source)));
    for (key, written, path) in &paths {
        let Some(written) = written else { continue };
        let mut others = paths.iter().filter(|(other, ..)| other != key);
        if let Some((other, ..)) = others.find(|(.., other)| is_one_file(path, other)) {
            let text = format!("{key} and {other} name one file, `{}`", path.display());
            return Err(Error::new(Stage::Settings, text)
                .hint(format!("set {key} to a file that is to be written")));
        }
        if *written == Written::Json && holds_something_else(path) {
            let text = format!(
                "`{}` ({key}) exists and is not a JSON document: it would be lost",
                path.display()
            );
            return Err(Error::new(Stage::Settings, text)
                .hint(format!("set {key} to another file, or remove that one")));
        }
    }
    Ok(())
}

/// Returns whether a regular file begins with anything but a JSON object. A link itself is replaced, so its target is
/// not lost.
fn holds_something_else(path: &Path) -> bool {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0) {
        return false;
    }
    let mut start = [0; 64];
    let got = fs::File::open(path).and_then(|mut file| file.read(&mut start)).unwrap_or_default();
    let start = start[..got].trim_ascii_start();
    // A file of blanks has no content to lose.
    start.first().is_some_and(|byte| *byte != b'{')
}

fn named(settings: &Resolved, row: &Row) -> Option<PathBuf> {
    let path = match settings.of(row)?.text()? {
        text if RESULT == *row => ResultFile::named(text).path().to_owned(),
        text => PathBuf::from(text),
    };
    settings.absolute(&path).ok()
}

/// Returns whether both paths lead to one file; directories may be shared.
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
    fn results_never_replace_a_file_that_another_setting_names() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        for name in ["disk.raw", "key.pem", "flat.vmdk", "blank.json", "older.json", "notes.json"] {
            let content = if name.ends_with("json") { " {}" } else { "content" };
            fs::write(at(name), content).unwrap();
        }
        fs::write(at("blank.json"), "\n").unwrap();
        fs::write(at("text.json"), "content").unwrap();
        fs::hard_link(at("disk.raw"), at("linked.json")).unwrap();
        std::os::unix::fs::symlink(at("key.pem"), at("link.json")).unwrap();
        for (typed, refused) in [
            (vec![("DISK", "disk.raw"), ("OUTPUT_JSON_FILE", "linked.json")], true),
            (vec![("DISK", "disk.raw"), ("PROVENANCE_FILE", "disk.raw")], true),
            (vec![("IMAGE_SIG_PRIVATE_KEY", "key.pem"), ("OUTPUT_JSON_FILE", "link.json")], true),
            (vec![("PROVENANCE_FILE", "new.json"), ("OUTPUT_JSON_FILE", "new.json")], true),
            (vec![("LOG_FILE", "disk.raw"), ("DISK", "disk.raw")], true),
            (vec![("PROVENANCE_FILE", "older.json"), ("OUTPUT_JSON_FILE", "new.json")], false),
            (vec![("PROVENANCE_FILE", "flat.vmdk")], true),
            (vec![("OUTPUT_JSON_FILE", "text.json")], true),
            (vec![("OUTPUT_JSON_FILE", "blank.json")], false),
            (vec![("OUTPUT_JSON_FILE", "link.json")], false),
            (vec![("LOG_FILE", ""), ("IMAGE_DIR", "")], false),
            (vec![("IMAGE_SIG_PRIVATE_KEY", "key.pem"), ("BUNDLE", "key.pem")], true),
            (vec![("PROVENANCE_FILE", "new.json"), ("BUNDLE", "new.json")], true),
            (vec![("DISK", "disk.raw"), ("BUNDLE", "flat.vmdk")], false),
            (vec![("DISK", "disk.raw"), ("PROVENANCE_FILE", "new.json")], false),
        ] {
            let typed = typed.iter().map(|(key, name)| ((*key).to_owned(), at(name)));
            let layers = Layers { command_line: typed.collect(), ..Layers::default() };
            let rows = core_rows();
            let settings = layers.resolve(&rows).unwrap();
            assert_eq!(check(&settings, &rows).is_err(), refused, "{:?}", layers.command_line);
        }
        let listed =
            format!(r#"[{{"source": "{}", "destination": "/etc/motd"}}]"#, at("notes.json"));
        for (result, refused) in [("notes.json", true), ("older.json", false)] {
            let typed = [("UPDATE_IMAGE_FILES", listed.clone()), (RESULT.name(), at(result))];
            let typed = typed.map(|(key, text)| (key.to_owned(), text));
            let layers = Layers { command_line: typed.into(), ..Layers::default() };
            let settings = layers.resolve(&core_rows()).unwrap();
            assert_eq!(check(&settings, &core_rows()).is_err(), refused, "{result}");
        }
    }
}
