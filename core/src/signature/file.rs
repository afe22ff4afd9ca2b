//! Computes digests of a file, and checks whether they are still valid.

use std::{
    fs::{File, Metadata},
    ops::ControlFlow,
    path::Path,
};

use build_image_disk::FileStamp;

use super::{Algorithm, Digests, digests_of};
use crate::error::{Error, Result, Stage};

/// Computes several digests of a file in one read. `seen` is called with the number of bytes read so far.
///
/// # Errors
/// When the file cannot be read, and [`Stage::Interrupted`] when `seen` breaks.
pub fn digests_of_file(
    path: &Path,
    algorithms: &[Algorithm],
    seen: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Digests> {
    let text = || format!("cannot read `{}`", path.display());
    let mut file =
        File::open(path).map_err(|error| Error::new(Stage::Source, text()).caused_by(&error))?;
    digests_of(&mut file, algorithms, seen).map_err(|error| match error.stage {
        Stage::Disk => Error { stage: Stage::Source, message: text(), ..error },
        _ => error,
    })
}

/// The SHA-256 of a file that was read for another reason, valid until the file changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDigest {
    sha256: Vec<u8>,
    stamp: FileStamp,
}

impl FileDigest {
    /// Creates a file digest from digests and the file's metadata from `before` they were computed; `None`
    /// without a SHA-256.
    #[must_use]
    pub fn of(digests: &Digests, before: &Metadata) -> Option<Self> {
        let sha256 = digests.get(Algorithm::Sha256)?.to_vec();
        Some(Self { sha256, stamp: before.into() })
    }

    /// Returns the SHA-256 of this file, unless it was written since.
    #[must_use]
    pub fn still_of(&self, path: &Path) -> Option<&[u8]> {
        self.stamp.still(path).is_ok().then_some(&self.sha256)
    }

    /// The SHA-256 at that time.
    #[must_use]
    pub fn sha256(&self) -> &[u8] {
        &self.sha256
    }

    /// The file's stamp from when the digest was computed.
    #[must_use]
    pub fn stamp(&self) -> FileStamp {
        self.stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_digest_holds_until_the_file_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        fs::write(&path, "content").unwrap();
        let before = path.metadata().unwrap();
        let digests =
            digests_of_file(&path, &[Algorithm::Sha256], &mut |_| ControlFlow::Continue(()));
        let digest = FileDigest::of(&digests.unwrap(), &before).unwrap();
        assert_eq!(digest.still_of(&path), Some(&digest.sha256[..]));
        fs::rename(&path, directory.path().join("y")).unwrap();
        assert!(digest.still_of(&path).is_none());
        // The same bytes and the same time in another file.
        fs::write(&path, "content").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
        assert!(digest.still_of(&path).is_none());
    }
}
