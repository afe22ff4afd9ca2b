//! Lists all files in the artifacts directory.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    artifacts::{more_space, write_whole},
    error::{Error, Result, Stage},
    settings::keys::ARTIFACTS_DIR,
};

/// Name of the list's file.
const FILE: &str = "files.txt";

/// Writes the list: length and path of every file, sorted.
pub(super) fn list(directory: &Path) -> Result<()> {
    let path = directory.join(FILE);
    let write_error = |error: std::io::Error| {
        Error::new(Stage::Disk, format!("cannot write `{}`", path.display()))
            .caused_by(&error)
            .hint(more_space(ARTIFACTS_DIR))
    };
    let mut found = Vec::new();
    collect(directory, &mut found).map_err(write_error)?;
    found.sort();
    let mut text = String::new();
    for (name, length) in found {
        let display = name.strip_prefix(directory).unwrap_or(&name).display();
        let _ = writeln!(text, "{length:>14}  {display}");
    }
    write_whole(&path, text.as_bytes()).map_err(write_error)
}

fn collect(directory: &Path, found: &mut Vec<(PathBuf, u64)>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.path().symlink_metadata()?;
        if metadata.is_dir() {
            collect(&entry.path(), found)?;
        } else if entry.file_name() != FILE {
            found.push((entry.path(), metadata.len()));
        }
    }
    Ok(())
}
