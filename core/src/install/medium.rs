//! Checks that an ISO is the verified one each time it is opened by its name.

use std::path::Path;

use build_image_disk::FileStamp;

use crate::{
    error::{Error, Result, Stage},
    signature::FileDigest,
    source::from_disk,
};

/// An ISO, and the stamp of its file from when it was verified.
pub(super) struct Medium<'a> {
    pub(super) path: &'a Path,
    stamp: FileStamp,
}

impl<'a> Medium<'a> {
    /// Uses the stamp of the verified digest; without a digest, the current stamp of the file.
    ///
    /// # Errors
    /// When the file does not exist.
    pub(super) fn of(path: &'a Path, digest: Option<&FileDigest>) -> Result<Self> {
        let stamp = match digest {
            Some(digest) => digest.stamp(),
            None => FileStamp::at(path).map_err(medium_error)?,
        };
        Ok(Self { path, stamp })
    }

    /// Checks that the path still names the same, unmodified file.
    ///
    /// # Errors
    /// [`Stage::Source`] with what changed.
    pub(super) fn check(&self) -> Result<()> {
        self.stamp.still(self.path).map_err(medium_error)
    }
}

fn medium_error(error: build_image_disk::Error) -> Error {
    from_disk(Stage::Source, error)
}

#[cfg(test)]
mod tests {
    use std::{fs, ops::ControlFlow};

    use super::*;
    use crate::signature::{Algorithm, digests_of_file};

    #[test]
    fn an_iso_that_was_replaced_after_it_was_verified_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("base.iso");
        fs::write(&path, "verified").unwrap();
        let before = path.metadata().unwrap();
        let algorithms = [Algorithm::Sha256];
        let digests = digests_of_file(&path, &algorithms, &mut |_| ControlFlow::Continue(()));
        let digest = FileDigest::of(&digests.unwrap(), &before);
        let medium = Medium::of(&path, digest.as_ref()).unwrap();
        medium.check().unwrap();
        let other = directory.path().join("other.iso");
        fs::write(&other, "verified").unwrap();
        fs::rename(&other, &path).unwrap();
        for medium in [medium, Medium::of(&path, digest.as_ref()).unwrap()] {
            let error = medium.check().unwrap_err();
            assert_eq!(error.stage, Stage::Source);
            assert!(error.message.contains("base.iso` changed while it was read"), "{error}");
        }
        Medium::of(&path, None).unwrap().check().unwrap();
    }
}
