//! Reads and writes the lock file: the plugins that may be loaded, with their checksums. A plugin that is
//! listed must have the listed checksum; with LOCKED, a plugin that is not listed is not loaded.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use build_image_files::AtomicFile;
use serde::{Deserialize, Serialize};

use super::{Candidate, trust::load_error};
use crate::{
    error::{Error, Result, Stage},
    settings::Environment,
    trust::{doubt_of, read_regular},
};

/// Name of the lock file.
const FILE: &str = "build-image.lock";
/// Version of the file's format.
const FORM: u32 = 1;
/// Longest lock file, in bytes.
const LIMIT: u64 = 16 << 20;

/// One locked plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Locked {
    /// Provider.
    pub name: String,
    /// Its version, for display.
    pub version: String,
    /// SHA-256 of its file, hexadecimal; this is compared.
    pub sha256: String,
    /// Its path when it was locked, for display.
    pub path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    providers: Vec<Locked>,
}

/// The lock file of a command, and whether unlisted plugins are refused.
#[derive(Clone, Debug, Default)]
pub struct Lock {
    path: Option<PathBuf>,
    exists: bool,
    entries: Vec<Locked>,
    required: bool,
}

impl Lock {
    /// Opens the lock file: `named`, which must exist; else the file beside the configuration file; else the
    /// user's. The first that exists is read; when none exists, the first path is where one would be written.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(
        named: Option<&Path>,
        config: Option<&Path>,
        environment: &Environment,
        required: bool,
    ) -> Result<Self> {
        let places = match named {
            Some(path) => vec![path.to_owned()],
            None => places(config, environment),
        };
        let required = required || named.is_some();
        let found = places.iter().find(|path| path.exists());
        let Some(path) = found.or(places.first()) else {
            return Ok(Self { required, ..Self::default() });
        };
        let mut lock = Self { path: Some(path.clone()), required, ..Self::default() };
        if found.is_some() {
            lock.entries = read(path)?;
            lock.exists = true;
        }
        Ok(lock)
    }

    /// Path of the lock file, existing or to be written.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Its entries.
    #[must_use]
    pub fn entries(&self) -> &[Locked] {
        &self.entries
    }

    /// Checks whether a plugin may be loaded. Returns whether it is locked.
    ///
    /// # Errors
    /// When it differs from the locked one, or is not locked although LOCKED is set.
    pub fn check(&self, candidate: &Candidate, sha256: &str) -> Result<bool> {
        let update = "see what it is; build-image providers lock --update accepts it";
        let place = self.path.clone().unwrap_or_default();
        match self.entries.iter().find(|entry| entry.name == candidate.name) {
            Some(entry) if entry.sha256 == sha256 => Ok(true),
            Some(entry) => {
                let what = format!("it is not the one that is locked in `{}`", place.display());
                let mut error = load_error(&candidate.path, &what);
                error.causes = vec![format!(
                    "the file has SHA-256 {sha256}, locked is {} (version {})",
                    entry.sha256, entry.version
                )];
                Err(error.hint(update))
            }
            None if !self.required => Ok(false),
            None if self.exists => {
                let what = format!("it is not in the lock file `{}`", place.display());
                Err(load_error(&candidate.path, &what).hint(update))
            }
            None => {
                let what = format!("it must be locked, and there is no `{}`", place.display());
                Err(load_error(&candidate.path, &what)
                    .hint("build-image providers lock writes it; see what it locks first"))
            }
        }
    }

    /// Returns whether plugins that are not listed are refused.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Returns the path of an existing lock file and its content with these entries instead of those of their names;
    /// `None` without a lock file, and when its entries decide what is loaded.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn with(&self, new: Vec<Locked>) -> Result<Option<(PathBuf, Vec<u8>)>> {
        let Some(path) = self.path.as_ref().filter(|_| self.exists && !self.required) else {
            return Ok(None);
        };
        // Another process may have changed it since it was opened.
        let mut entries = read(path)?;
        entries.retain(|entry| !new.iter().any(|one| one.name == entry.name));
        entries.extend(new);
        Ok(Some((path.clone(), rendered(entries)?)))
    }

    /// Writes a lock file with these entries.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, entries: Vec<Locked>) -> Result<PathBuf> {
        let path = self.path.clone().ok_or_else(|| {
            Error::new(Stage::Settings, "there is no place for a lock file")
                .hint("name one with --providers-lock, or a configuration file with -c")
        })?;
        let write_error = |error: std::io::Error| {
            let text = format!("cannot write the lock file `{}`", path.display());
            Error::new(Stage::Settings, text)
                .caused_by(&error)
                .hint("name another one with --providers-lock")
        };
        let content = rendered(entries)?;
        let directory = match path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        };
        fs::create_dir_all(directory).map_err(write_error)?;
        let mut file = AtomicFile::with_mode(&path, 0o644).map_err(write_error)?;
        file.write_all(&content).and_then(|()| file.commit()).map_err(write_error)?;
        Ok(path)
    }
}

/// Returns the content of a lock file.
fn rendered(mut entries: Vec<Locked>) -> Result<Vec<u8>> {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let document = Document { version: FORM, providers: entries };
    let text = serde_json::to_string_pretty(&document)
        .map_err(|error| Error::new(Stage::Bug, "a lock cannot be written").caused_by(&error))?;
    Ok(format!("{text}\n").into_bytes())
}

fn places(config: Option<&Path>, environment: &Environment) -> Vec<PathBuf> {
    let beside = config.map(|config| config.with_file_name(FILE));
    let home = || Some(Path::new(environment.get("HOME")?).join(".config"));
    let user = environment.get("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
    let user = user.map(|directory| directory.join("build-image").join(FILE));
    beside.into_iter().chain(user).collect()
}

fn read(path: &Path) -> Result<Vec<Locked>> {
    let lock_file_error = |what: &str| {
        Error::new(Stage::Plugin, format!("the lock file `{}` {what}", path.display()))
    };
    match doubt_of(path) {
        Ok(None) => {}
        Ok(Some(doubt)) => {
            return Err(lock_file_error(&format!("is not used: {doubt}")).hint(doubt.hint));
        }
        Err(error) => return Err(lock_file_error("cannot be examined").caused_by(&error)),
    }
    let text = read_regular(path, LIMIT)
        .map_err(|error| lock_file_error("cannot be read").caused_by(&error))?;
    let document: Document = serde_json::from_slice(&text).map_err(|error| {
        lock_file_error("is malformed")
            .caused_by(&error)
            .hint("build-image providers lock writes a new one when it is gone")
    })?;
    if document.version != FORM {
        return Err(lock_file_error(&format!(
            "has form {}, this build-image reads {FORM}",
            document.version
        ))
        .hint("use a newer build-image"));
    }
    Ok(document.providers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::FileKind;

    fn candidate(name: &str) -> Candidate {
        Candidate { name: name.to_owned(), path: "/p/x.so".into(), kind: FileKind::Library }
    }

    fn entry(name: &str, sha256: &str) -> Locked {
        Locked { name: name.to_owned(), sha256: sha256.to_owned(), ..Locked::default() }
    }

    fn open(directory: &Path, required: bool) -> Result<Lock> {
        Lock::open(None, Some(&directory.join("config.yml")), &Environment::default(), required)
    }

    #[test]
    fn a_listed_plugin_must_match_and_unlisted_ones_are_refused_with_locked() {
        let directory = tempfile::tempdir().unwrap();
        for (required, expected) in [(false, None), (true, Some("there is no"))] {
            let lock = open(directory.path(), required).unwrap();
            let checked = lock.check(&candidate("a"), "1");
            assert_eq!(
                checked.map_err(|error| error.message.contains(expected.unwrap_or_default())),
                if required { Err(true) } else { Ok(false) }
            );
        }
        open(directory.path(), false)
            .unwrap()
            .write(vec![entry("b", "2"), entry("a", "1")])
            .unwrap();
        for required in [false, true] {
            let lock = open(directory.path(), required).unwrap();
            assert_eq!(lock.entries()[0].name, "a", "sorted");
            assert!(lock.check(&candidate("a"), "1").unwrap());
            let error = lock.check(&candidate("a"), "9").unwrap_err();
            assert!(error.message.contains("build-image.lock") && error.causes[0].contains('9'));
            assert_eq!(lock.check(&candidate("c"), "3").is_ok(), !required);
        }
    }

    #[test]
    fn the_lock_beside_the_configuration_comes_before_the_users() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("home");
        let environment = Environment::of([("HOME", home.to_str().unwrap())]);
        let user = Lock::open(None, None, &environment, false).unwrap();
        let written = user.write(vec![entry("a", "1")]).unwrap();
        assert_eq!(written, home.join(".config/build-image/build-image.lock"));
        let config = directory.path().join("config.yml");
        let both = || Lock::open(None, Some(&config), &environment, false).unwrap();
        assert_eq!(both().path(), Some(written.as_path()), "the one that exists");
        let beside = directory.path().join(FILE);
        fs::write(&beside, r#"{"version": 1, "providers": []}"#).unwrap();
        assert_eq!(both().path(), Some(beside.as_path()));
    }

    #[test]
    fn a_lock_file_that_cannot_be_parsed_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["", "{}", r#"{"version": 2, "providers": []}"#] {
            fs::write(directory.path().join(FILE), text).unwrap();
            assert!(
                open(directory.path(), false).unwrap_err().message.contains("build-image.lock")
            );
        }
    }
}
