//! Digests of a file, and how long they hold.

use std::{
    fs::{File, Metadata},
    ops::ControlFlow,
    path::Path,
    time::SystemTime,
};

use super::{Algorithm, Digests, digests_of};
use crate::error::{Error, Result, Stage};

/// Several digests of a file, read once. `seen` is told how many bytes were read so far.
///
/// # Errors
/// When the file cannot be read, and [`Stage::Interrupted`] when `seen` wants to stop.
pub fn digests_of_file(
    path: &Path,
    algorithms: &[Algorithm],
    seen: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Digests> {
    let text = || format!("cannot read `{}`", path.display());
    let mut file =
        File::open(path).map_err(|error| Error::new(Stage::Source, text()).because(&error))?;
    digests_of(&mut file, algorithms, seen).map_err(|error| match error.stage {
        Stage::Disk => Error { stage: Stage::Source, message: text(), ..error },
        _ => error,
    })
}

/// The SHA-256 of a file that was read for another reason, valid until the file changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDigest {
    sha256: Vec<u8>,
    len: u64,
    modified: Option<SystemTime>,
}

impl FileDigest {
    /// What digests tell of a file whose metadata was `before` they were made; `None` without a SHA-256.
    #[must_use]
    pub fn of(digests: &Digests, before: &Metadata) -> Option<Self> {
        let sha256 = digests.get(Algorithm::Sha256)?.to_vec();
        Some(Self { sha256, len: before.len(), modified: before.modified().ok() })
    }

    /// The SHA-256 of this file, unless it was written since.
    #[must_use]
    pub fn still_of(&self, path: &Path) -> Option<&[u8]> {
        let now = path.metadata().ok()?;
        let same = now.len() == self.len && now.modified().ok() == self.modified;
        (same && self.modified.is_some()).then_some(&self.sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_digest_holds_until_the_file_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, "content").unwrap();
        let before = path.metadata().unwrap();
        let digests =
            digests_of_file(&path, &[Algorithm::Sha256], &mut |_| ControlFlow::Continue(()));
        let digest = FileDigest::of(&digests.unwrap(), &before).unwrap();
        assert_eq!(digest.still_of(&path), Some(&digest.sha256[..]));
        let moved = folder.path().join("y");
        fs::rename(&path, &moved).unwrap();
        assert!(digest.still_of(&moved).is_some() && digest.still_of(&path).is_none());
        let later = before.modified().unwrap() + std::time::Duration::from_secs(1);
        File::options().write(true).open(&moved).unwrap().set_modified(later).unwrap();
        assert!(digest.still_of(&moved).is_none());
        fs::write(&moved, "longer content").unwrap();
        assert!(digest.still_of(&moved).is_none());
    }
}
