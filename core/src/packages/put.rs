//! Puts verified files, the record of them and their lock into place together.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use build_image_files::{AtomicFile, FileSet, SetError};

use super::{
    Installed, Installer, Outcome, Package,
    install::{Offer, Staged, check_sha256},
    records::Records,
    refused,
};
use crate::{
    error::{Error, Result, Stage},
    plugins::{Candidate, FileKind, Locked},
    trust::read_regular,
};

/// Suffix of a checksum beside a plugin, and its longest length in bytes.
const SUM_SUFFIX: &str = ".sha256";
const SUM_LIMIT: u64 = 64 << 10;

impl Installer<'_> {
    /// Puts verified files into place, all or none.
    pub(super) fn put(
        &self,
        staged: Vec<Staged>,
        mut records: Records,
        offer: Option<&Offer>,
    ) -> Result<Vec<Installed>> {
        let directory = self.place.directory();
        let (mut done, mut new) = (Vec::new(), Vec::new());
        let mut set = FileSet::default();
        for Staged { package, path } in staged {
            self.check_lock(&package)?;
            check_sum_file(&package, directory)?;
            let before = records.find(&package.name);
            if path == package.path(directory) {
                let package = before.cloned().unwrap_or(package);
                done.push(Installed { outcome: Outcome::Unchanged, package });
                continue;
            }
            let outcome = if before.is_some() { Outcome::Replaced } else { Outcome::Installed };
            if let Some(before) = before.filter(|before| before.kind != package.kind) {
                set.obsolete(before.path(directory));
            }
            set.add(copied(&path, &package, directory)?);
            new.push(package.clone());
            done.push(Installed { outcome, package });
        }
        self.interrupt.check()?;
        if let Some(offer) = offer {
            self.publishers.keep(&offer.publisher, offer.known.as_ref())?;
        }
        if !new.is_empty() {
            records.announce(&new)?;
        }
        for package in new {
            records.put(package);
        }
        let (path, content) = records.rendered()?;
        let locked = done.iter().map(|one| self.locked(&one.package)).collect();
        let lock = self.loader.lock.with(locked)?;
        for (path, content) in [(path, content)].into_iter().chain(lock) {
            set.write(&path, &content).map_err(|error| set_error(&error))?;
        }
        if let Err(error) = set.commit() {
            // Files that are in place by now are recorded. When that fails too, `pending` still names them.
            let _ = Records::read(directory).and_then(|records| records.write());
            return Err(set_error(&error));
        }
        Ok(done)
    }

    fn locked(&self, package: &Package) -> Locked {
        Locked {
            name: package.name.clone(),
            version: package.version.clone(),
            sha256: package.sha256.clone(),
            path: package.path(self.place.directory()),
        }
    }

    /// With LOCKED, only what is in the lock file is installed.
    fn check_lock(&self, package: &Package) -> Result<()> {
        if !self.loader.lock.is_required() {
            return Ok(());
        }
        let path = package.path(self.place.directory());
        self.loader.lock.check(&Candidate::named(&package.name, &path), &package.sha256).map(|_| ())
    }
}

/// Refuses a checksum of another file beside the plugin: with it, the plugin would not load.
fn check_sum_file(package: &Package, directory: &Path) -> Result<()> {
    let mut sum = package.path(directory).into_os_string();
    sum.push(SUM_SUFFIX);
    let sum = PathBuf::from(sum);
    if sum.symlink_metadata().is_err() {
        return Ok(());
    }
    let text = read_regular(&sum, SUM_LIMIT).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).to_lowercase();
    if text.split_whitespace().next() == Some(package.sha256.as_str()) {
        return Ok(());
    }
    let text = format!("`{}` is the checksum of another file", sum.display());
    Err(refused(text).hint("remove it; what is installed is in packages.json"))
}

/// Copies a verified file to a temporary file beside its target, and verifies the copy.
fn copied(path: &Path, package: &Package, directory: &Path) -> Result<AtomicFile> {
    let target = package.path(directory);
    let write_error = |error: std::io::Error| {
        Error::new(Stage::Disk, format!("cannot write `{}`", target.display())).caused_by(&error)
    };
    let mode = if package.kind == FileKind::Program { 0o755 } else { 0o644 };
    let mut file = AtomicFile::with_mode(&target, mode).map_err(write_error)?;
    let mut from = File::open(path).map_err(write_error)?;
    std::io::copy(&mut from, &mut file).map_err(write_error)?;
    file.flush().map_err(write_error)?;
    check_sha256(file.temporary(), &target.display().to_string(), &package.sha256)?;
    Ok(file)
}

fn set_error(error: &SetError) -> Error {
    Error::new(Stage::Disk, error.to_string()).caused_by(&error.source)
}
