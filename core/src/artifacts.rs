//! Folders of a build's files: made with a marker, removed only when they carry it.

use std::{fs, io, path::Path};

use crate::error::{Error, Result, Stage};

/// File that marks a folder as made by this tool; its content is the tool's version.
const MARKER: &str = "generator-info.json";

/// Makes the folder of a build, empty. An earlier build's folder is emptied first.
///
/// # Errors
/// When it cannot be made, or holds files of somebody else.
pub fn make(folder: &Path) -> Result<()> {
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) if !folder.join(MARKER).is_file() => {
            return Err(Error::new(
                Stage::Disk,
                format!("the artifacts folder `{}` holds files of somebody else", folder.display()),
            )
            .hint("set ARTIFACTS_DIR to another folder"));
        }
        Ok(true) => fs::remove_dir_all(folder).map_err(|error| cannot_make(folder, &error))?,
        Ok(false) | Err(_) => {}
    }
    fs::create_dir_all(folder).map_err(|error| cannot_make(folder, &error))?;
    let marker = concat!("{\"VERSION\":\"", env!("CARGO_PKG_VERSION"), "\"}\n");
    fs::write(folder.join(MARKER), marker).map_err(|error| cannot_make(folder, &error))
}

/// Removes the folder of a build, and folders above it up to `base` that are empty then.
pub fn remove(folder: &Path, base: &Path) {
    if folder.join(MARKER).is_file() {
        remove_tree(folder, base);
    }
}

/// Removes the folder of a run's journal, and empty folders above it up to `base`.
pub fn remove_run(folder: &Path, base: &Path) {
    remove_tree(folder, base);
}

fn remove_tree(folder: &Path, base: &Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot remove a folder");
    }
    for parent in folder.ancestors().skip(1).take_while(|parent| parent.starts_with(base)) {
        if fs::remove_dir(parent).is_err() {
            break;
        }
    }
}

/// A folder that cannot be made or used.
pub(crate) fn cannot_make(folder: &Path, error: &io::Error) -> Error {
    Error::new(Stage::Disk, format!("cannot make the folder `{}`", folder.display()))
        .because(error)
        .hint("set ARTIFACTS_DIR and IMAGE_DIR to folders this user may write to")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_folders_are_emptied_and_removed() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("x/y");
        make(&folder).unwrap();
        fs::write(folder.join("old"), "").unwrap();
        make(&folder).unwrap();
        assert!(!folder.join("old").exists());
        remove(&folder, &base.path().join("x"));
        assert!(!base.path().join("x").exists() && base.path().exists());

        let foreign = base.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("precious"), "").unwrap();
        assert!(make(&foreign).unwrap_err().message.contains("somebody else"));
        remove(&foreign, base.path());
        assert!(foreign.join("precious").exists());
    }
}
