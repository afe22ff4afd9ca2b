//! Removes what was installed, and only that.

use std::{collections::BTreeMap, fs, io, path::Path};

use super::{Installer, Package, Standing, refused};
use crate::{
    error::{Error, Result, Stage},
    plugins::FileKind,
};

impl Installer<'_> {
    /// Removes an installed provider. A file that was changed since is not removed.
    ///
    /// # Errors
    /// When it was not installed by this program, was changed, or cannot be removed.
    pub(crate) fn remove(&self, names: &[String]) -> Result<Vec<Package>> {
        let directory = self.place.directory();
        // A directory without packages is not created.
        let records = self.place.records()?;
        if let Some(name) = names.iter().find(|name| records.find(name).is_none()) {
            return Err(not_installed(name, directory));
        }
        let _held = self.place.hold(self.reporter, self.interrupt)?;
        let mut records = self.place.records()?;
        let mut removed = BTreeMap::new();
        for name in names {
            let package = records.find(name).ok_or_else(|| not_installed(name, directory))?;
            if let Standing::Changed(_) | Standing::Unreadable(_) = package.standing(directory) {
                let path = package.path(directory);
                let text = format!("`{}` was changed after it was installed", path.display());
                return Err(refused(text).hint("look at it, and remove the file by hand"));
            }
            removed.insert(name.clone(), package.clone());
        }
        for package in removed.values() {
            let path = package.path(directory);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let text = format!("cannot remove `{}`", path.display());
                    return Err(Error::new(Stage::Disk, text).caused_by(&error));
                }
                _ => {}
            }
            records.take(&package.name);
            records.write()?;
        }
        Ok(removed.into_values().collect())
    }
}

/// Returns the error for a provider that was not installed from a package.
pub(crate) fn not_installed(name: &str, directory: &Path) -> Error {
    let is_there =
        |kind: &FileKind| directory.join(kind.file_name(name)).symlink_metadata().is_ok();
    let by_hand = [FileKind::Library, FileKind::Program].into_iter().find(is_there);
    let text = format!("provider `{name}` was not installed into `{}`", directory.display());
    let error = refused(text);
    match by_hand {
        Some(kind) => error.hint(format!("`{}` was copied there by hand", kind.file_name(name))),
        None => error.hint("build-image providers verify lists what is installed"),
    }
}
