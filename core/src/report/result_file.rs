//! Writes the result document to its file.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use build_image_files::AtomicFile;

use super::Outcome;
use crate::{
    error::{Error, Result, Stage},
    settings::keys::OUTPUT_JSON_FILE,
};

/// Suffix of a path that names a file; any other path is a prefix.
const ENDING: &str = ".json";
/// Appended to a path without that suffix; a directory therefore needs its trailing slash.
const NAME: &str = "output_info.json";

/// The file of a result document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultFile {
    path: PathBuf,
}

impl ResultFile {
    /// The file for the value of a setting.
    #[must_use]
    pub fn named(text: &str) -> Self {
        let text = if text.ends_with(ENDING) { text.to_owned() } else { format!("{text}{NAME}") };
        Self { path: PathBuf::from(text) }
    }

    /// Path of the document.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks whether the file can be written, as far as possible without writing.
    ///
    /// # Errors
    /// When its directory does not exist and cannot be created, or this user may not write there.
    pub fn probe(&self) -> Result<()> {
        let cannot_write = |error: &io::Error| self.write_error(Stage::Settings, error);
        if self.path.is_dir() {
            return Err(cannot_write(&io::ErrorKind::IsADirectory.into()));
        }
        let path = std::path::absolute(&self.path).map_err(|error| cannot_write(&error))?;
        for directory in path.ancestors().skip(1) {
            match fs::metadata(directory) {
                Ok(metadata) if metadata.is_dir() => {
                    use rustix::fs::{Access, access};
                    let may = access(directory, Access::WRITE_OK | Access::EXEC_OK);
                    return may.map_err(|error| cannot_write(&error.into()));
                }
                Ok(_) => return Err(cannot_write(&io::ErrorKind::NotADirectory.into())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(cannot_write(&error)),
            }
        }
        Ok(())
    }

    /// Writes the document, complete or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, outcome: &Outcome) -> Result<()> {
        self.write_text(&outcome.text())
    }

    /// Writes the text of a document, complete or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_text(&self, text: &str) -> Result<()> {
        let cannot_write = |error: io::Error| self.write_error(Stage::Result, &error);
        let directory = self.path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let directory = directory.unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(directory).map_err(cannot_write)?;
        let mut file = AtomicFile::with_mode(&self.path, 0o644).map_err(cannot_write)?;
        writeln!(file, "{text}").and_then(|()| file.commit()).map_err(cannot_write)
    }

    fn write_error(&self, stage: Stage, error: &io::Error) -> Error {
        Error::new(stage, format!("cannot write the result to `{}`", self.path.display()))
            .caused_by(error)
            .hint(format!("set {OUTPUT_JSON_FILE} to a file this user may write to"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn paths_without_the_suffix_get_a_file_name_appended() {
        for (text, path) in [
            ("out.json", "out.json"),
            ("out/", "out/output_info.json"),
            ("out", "outoutput_info.json"),
            ("a.json/", "a.json/output_info.json"),
        ] {
            assert_eq!(ResultFile::named(text).path, Path::new(path));
        }
    }

    #[test]
    fn others_may_read_the_file_as_far_as_the_mask_allows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/r.json");
        ResultFile::named(path.to_str().unwrap()).write(&Outcome::default()).unwrap();
        // An ordinary file gets mode 0644 reduced by this process's umask.
        let ordinary = directory.path().join("ordinary");
        fs::write(&ordinary, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), mode(&ordinary) & 0o644);
        let document: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(document["image_id"], "");
    }

    #[test]
    fn a_path_that_cannot_be_written_is_detected_before() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        fs::create_dir(directory.path().join("folder.json")).unwrap();
        let probe =
            |name: &str| ResultFile::named(directory.path().join(name).to_str().unwrap()).probe();
        probe("r.json").unwrap();
        probe("not/yet/there/r.json").unwrap();
        probe("file").unwrap();
        for name in ["file/r.json", "file/deeper/r.json", "folder.json"] {
            let error = probe(name).unwrap_err();
            assert!(error.stage == Stage::Settings && error.message.contains(name), "{error}");
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "a probe makes nothing");
        let proc = ResultFile::named("/proc/version/x.json").probe().unwrap_err();
        assert_eq!(proc.stage, Stage::Settings);
    }
}
