//! Records what is installed in a provider directory. A change is recorded before it is made, so that a killed process
//! leaves a record that matches the files.

use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    document,
    index::{is_sha256, kind},
    refused,
};
use crate::{
    error::{Error, Result, Stage},
    plugins::{FileKind, is_provider_name},
    signature::{Algorithm, digests_of},
    trust::open_regular,
};

/// File of the records, in the provider directory.
const FILE: &str = "packages.json";
/// Version of the file's form.
const VERSION: u32 = 1;

/// An installed provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Package {
    /// Name of the provider.
    pub(crate) name: String,
    /// Its version; empty when its file does not contain one.
    pub(crate) version: String,
    /// Kind of its file.
    #[serde(with = "kind")]
    pub(crate) kind: FileKind,
    /// SHA-256 of its file, hexadecimal.
    pub(crate) sha256: String,
    /// Length of its file, in bytes.
    pub(crate) size: u64,
    /// The publisher whose index named it; absent for a file that was installed with its SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) publisher: Option<String>,
    /// Where the index or the file was read from, without passwords.
    pub(crate) source: String,
    /// When it was installed, UTC.
    pub(crate) installed: String,
}

impl Package {
    /// Returns the path of its file.
    pub(crate) fn path(&self, directory: &Path) -> PathBuf {
        directory.join(self.kind.file_name(&self.name))
    }

    /// Compares its file with the record.
    pub(crate) fn standing(&self, directory: &Path) -> Standing {
        match sha256_of_file(&self.path(directory)) {
            Ok(sha256) if sha256 == self.sha256 => Standing::Intact,
            Ok(sha256) => Standing::Changed(sha256),
            Err(Unreadable::Missing) => Standing::Missing,
            Err(Unreadable::Failed(error)) => Standing::Unreadable(error.causes.join(": ")),
        }
    }
}

/// The state of a recorded file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is the one that was installed.
    Intact,
    /// It has this SHA-256.
    Changed(String),
    /// It is absent.
    Missing,
    /// It cannot be read, for this reason.
    Unreadable(String),
}

/// Why a file has no SHA-256.
pub(super) enum Unreadable {
    Missing,
    Failed(Error),
}

/// Returns the SHA-256 of a regular file.
pub(super) fn sha256_of_file(path: &Path) -> Result<String, Unreadable> {
    let read_error = |error: &dyn std::fmt::Display| {
        let mut made = refused(format!("cannot read `{}`", path.display()));
        made.causes = vec![error.to_string()];
        Unreadable::Failed(made)
    };
    let mut file = open_regular(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unreadable::Missing,
        _ => read_error(&error),
    })?;
    let digests = digests_of(&mut file, &[Algorithm::Sha256], &mut |_| ControlFlow::Continue(()));
    let digests = digests.map_err(|error| read_error(&error.causes.join(": ")))?;
    Ok(digests.hex(Algorithm::Sha256).unwrap_or_default())
}

#[derive(Default, Serialize, Deserialize)]
struct Document {
    version: u32,
    packages: Vec<Package>,
    /// Packages whose files are being replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pending: Vec<Package>,
}

/// What is installed in a directory.
pub(crate) struct Records {
    directory: PathBuf,
    document: Document,
}

impl Records {
    /// Reads the records. Packages that a killed process was replacing count as their files are.
    ///
    /// # Errors
    /// When they cannot be read, are malformed, or others may change them.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(FILE);
        let document = document::read::<Document>(&path)?;
        let document = document.unwrap_or(Document { version: VERSION, ..Document::default() });
        let is_package = |one: &Package| is_provider_name(&one.name) && is_sha256(&one.sha256);
        if document.version != VERSION
            || !document.packages.iter().chain(&document.pending).all(is_package)
        {
            return Err(refused(format!("`{}` is not a record of packages", path.display()))
                .hint("use a newer build-image, or restore the file from a backup"));
        }
        let mut records = Self { directory: directory.to_owned(), document };
        records.settle();
        Ok(records)
    }

    /// Accepts the pending packages whose files are in place, and drops the others.
    fn settle(&mut self) {
        for package in std::mem::take(&mut self.document.pending) {
            if package.standing(&self.directory) == Standing::Intact {
                self.put(package);
            }
        }
    }

    /// All packages.
    pub(crate) fn packages(&self) -> &[Package] {
        &self.document.packages
    }

    /// The package of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&Package> {
        self.document.packages.iter().find(|package| package.name == name)
    }

    /// Adds a package, or replaces the one of its name.
    pub(super) fn put(&mut self, package: Package) {
        self.document.packages.retain(|one| one.name != package.name);
        self.document.packages.push(package);
        self.document.packages.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// Removes a package.
    pub(super) fn take(&mut self, name: &str) {
        self.document.packages.retain(|one| one.name != name);
    }

    /// Writes that the files of these packages are about to be put into place.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn announce(&self, pending: &[Package]) -> Result<()> {
        let packages = self.document.packages.clone();
        let pending = pending.to_vec();
        document::write(&self.path(), &Document { version: VERSION, packages, pending })
    }

    /// Writes the records.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn write(&self) -> Result<()> {
        document::write(&self.path(), &self.document)
    }

    /// Returns the file of the records and its content.
    ///
    /// # Errors
    /// When they cannot be formatted.
    pub(super) fn rendered(&self) -> Result<(PathBuf, Vec<u8>)> {
        let text = serde_json::to_string_pretty(&self.document).map_err(|error| {
            Error::new(Stage::Bug, "a record of packages cannot be written").caused_by(&error)
        })?;
        Ok((self.path(), format!("{text}\n").into_bytes()))
    }

    fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }
}
