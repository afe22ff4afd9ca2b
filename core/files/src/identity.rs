//! Identifies a file by device, inode, and creation time, so that another file with its name is not mistaken
//! for it.

use std::{
    fmt::{self, Display},
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    str::FromStr,
    time::UNIX_EPOCH,
};

/// The identity of a file. As text (`device:inode:birth`) it can be kept for a later process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    /// The creation time in nanoseconds since 1970; 0 if the file system does not record it.
    born: u64,
}

impl Identity {
    /// Returns the identity of the file with this metadata.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let born = born.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or_default();
        Self { device: metadata.dev(), inode: metadata.ino(), born }
    }

    /// Returns the identity of an open file.
    ///
    /// # Errors
    /// Fails when the metadata cannot be read.
    pub fn of_file(file: &File) -> io::Result<Self> {
        Ok(Self::of(&file.metadata()?))
    }

    /// Returns whether `path` refers to this file. A symbolic link to it is a different file.
    ///
    /// # Errors
    /// Fails when the metadata cannot be read, except when `path` does not exist.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(found) => Ok(found.is_file() && self.is(&Self::of(&found))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns whether both are the same file. Device numbers change when a host restarts, and inode numbers
    /// are reused; the creation time decides if both know it.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let same_birth = if self.born != 0 && other.born != 0 {
            self.born == other.born
        } else {
            self.device == other.device
        };
        self.inode == other.inode && same_birth
    }
}

impl Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.device, self.inode, self.born)
    }
}

/// The error for a text that is not an [`Identity`].
#[derive(Debug)]
pub struct NotAnIdentity;

impl FromStr for Identity {
    type Err = NotAnIdentity;

    fn from_str(text: &str) -> Result<Self, NotAnIdentity> {
        let mut numbers = text.split(':').map(|number| number.parse::<u64>().ok());
        let mut next = || numbers.next().flatten().ok_or(NotAnIdentity);
        let found = Self { device: next()?, inode: next()?, born: next()? };
        if numbers.next().is_some() { Err(NotAnIdentity) } else { Ok(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_recognised_under_another_name_and_after_another_process() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("first"), directory.path().join("second"));
        fs::write(&first, "").unwrap();
        let identity = Identity::of_file(&File::open(&first).unwrap()).unwrap();
        let kept: Identity = identity.to_string().parse().unwrap();
        fs::rename(&first, &second).unwrap();
        fs::write(&first, "").unwrap();
        assert!(kept.is_at(&second).unwrap() && !kept.is_at(&first).unwrap());
        fs::remove_file(&first).unwrap();
        std::os::unix::fs::symlink(&second, &first).unwrap();
        assert!(!kept.is_at(&first).unwrap(), "a link is not the file");
        assert!(!kept.is_at(&directory.path().join("third")).unwrap());
    }

    #[test]
    fn an_inode_that_is_used_again_is_another_file() {
        let of = |device, inode, born| Identity { device, inode, born };
        for (left, right, same) in [
            (of(1, 2, 3), of(1, 2, 3), true),
            (of(1, 2, 3), of(1, 2, 4), false),
            // Device numbers change when a host restarts.
            (of(1, 2, 3), of(9, 2, 3), true),
            (of(1, 2, 0), of(1, 2, 3), true),
            (of(1, 2, 0), of(9, 2, 3), false),
            (of(1, 2, 3), of(1, 5, 3), false),
        ] {
            assert_eq!(left.is(&right), same, "{left} {right}");
        }
        for text in ["", "1", "1:2", "1:2:x", "1:2:3:4"] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }
}
