//! Makes several files appear together: an image, its digests, its signature.

use std::{
    collections::BTreeSet,
    fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::{
    AtomicFile,
    atomic::{parent, sync_directory},
};

/// Files that are all complete before the first of them gets its final name.
#[derive(Debug, Default)]
pub struct FileSet {
    files: Vec<AtomicFile>,
    obsolete: Vec<PathBuf>,
}

/// A failure and the file it is about.
#[derive(Debug)]
pub struct SetError {
    /// The current or intended path of the file.
    pub path: PathBuf,
    /// The error of the operating system.
    pub source: io::Error,
}

impl FileSet {
    /// Adds a written file. Files get their names in the order in which they are added.
    pub fn add(&mut self, file: AtomicFile) {
        self.files.push(file);
    }

    /// Adds a file with this content.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn write(&mut self, target: &Path, content: &[u8]) -> Result<(), SetError> {
        let write_error = |source| SetError { path: target.to_owned(), source };
        let mut file = AtomicFile::create(target).map_err(write_error)?;
        file.write_all(content).map_err(write_error)?;
        self.add(file);
        Ok(())
    }

    /// Adds a file of an older set that this set does not contain and that would not match it, such as a
    /// signature. A missing file is not an error, and a file that this set contains is kept.
    pub fn obsolete(&mut self, path: PathBuf) {
        self.obsolete.push(path);
    }

    /// Makes all files durable, removes obsolete ones, and renames the others. A failure before the first
    /// removal or renaming leaves every older file as it was.
    ///
    /// # Errors
    /// Fails when a file cannot be made durable, removed, or renamed. Files that have no final name yet are
    /// removed then.
    pub fn commit(mut self) -> Result<(), SetError> {
        for file in &self.files {
            let is_directory =
                fs::symlink_metadata(file.target()).is_ok_and(|found| found.is_dir());
            let checked = if is_directory {
                Err(io::ErrorKind::IsADirectory.into())
            } else {
                file.sync().and_then(|()| file.check())
            };
            checked.map_err(|source| SetError { path: file.target().to_owned(), source })?;
        }
        let mut directories = BTreeSet::new();
        let new = |path: &PathBuf| self.files.iter().any(|file| file.target() == path);
        // Obsolete files are removed first: a missing digest misleads less than a wrong one.
        for path in self.obsolete.iter().filter(|path| !new(path)) {
            match fs::remove_file(path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(SetError { path: path.clone(), source });
                }
                Ok(()) | Err(_) => {}
            }
            directories.insert(parent(path).to_owned());
        }
        for file in &mut self.files {
            let renamed = file.rename();
            renamed.map_err(|source| SetError { path: file.target().to_owned(), source })?;
            directories.insert(parent(file.target()).to_owned());
        }
        for path in directories {
            sync_directory(&path).map_err(|source| SetError { path, source })?;
        }
        Ok(())
    }
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write `{}`", self.path.display())
    }
}

impl std::error::Error for SetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates an older set: an image with a digest and a signature.
    fn older(directory: &Path) {
        for (name, text) in [("d", "old image"), ("d.md5", "old digest"), ("d.384.sig", "old")] {
            fs::write(directory.join(name), text).unwrap();
        }
    }

    fn new_set(directory: &Path) -> FileSet {
        let mut set = FileSet::default();
        set.write(&directory.join("d"), b"new image").unwrap();
        set.write(&directory.join("d.md5"), b"new digest").unwrap();
        for name in ["d.384.sig", "d.512.sig", "d.md5"] {
            set.obsolete(directory.join(name));
        }
        set
    }

    fn content(directory: &Path) -> Vec<(String, String)> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
        let mut found: Vec<_> = entries
            .map(|entry| {
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                (entry.file_name().into_string().unwrap(), text)
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn a_set_appears_together_and_takes_the_place_of_the_older_one() {
        let directory = tempfile::tempdir().unwrap();
        older(directory.path());
        new_set(directory.path()).commit().unwrap();
        let expected = [("d", "new image"), ("d.md5", "new digest")];
        let expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(content(directory.path()), expected);
    }

    #[test]
    fn a_set_that_is_not_complete_leaves_the_older_one_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        older(directory.path());
        let before = content(directory.path());
        drop(new_set(directory.path()));
        assert_eq!(content(directory.path()), before);

        let set = new_set(directory.path());
        fs::remove_file(set.files[1].temporary()).unwrap();
        let error = set.commit().unwrap_err();
        assert_eq!(error.path, directory.path().join("d.md5"));
        assert_eq!(content(directory.path()), before);

        let mut set = new_set(directory.path());
        fs::create_dir(directory.path().join("e")).unwrap();
        set.write(&directory.path().join("e"), b"").unwrap();
        assert_eq!(set.commit().unwrap_err().source.kind(), io::ErrorKind::IsADirectory);
        fs::remove_dir(directory.path().join("e")).unwrap();
        assert_eq!(content(directory.path()), before);
    }
}
