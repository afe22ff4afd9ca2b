//! Defines the source of an image, as far as it is known.

use std::path::PathBuf;

use crate::{
    product::{Facts, VeInfo},
    signature::FileDigest,
    source::GivenDisk,
};

/// The source of an image.
pub enum Source {
    /// A BIG-IP installer.
    Iso {
        /// The file.
        path: PathBuf,
        /// Facts about the system that it installs.
        facts: Facts,
        /// The sizes of its volumes.
        info: Box<VeInfo>,
        /// Its digest, when it was already computed for another purpose.
        digest: Option<FileDigest>,
        /// The hotfix that is installed on top.
        hotfix: Option<Box<Hotfix>>,
    },
    /// A disk image.
    Disk(GivenDisk),
    /// A source that must be downloaded or unpacked before its content is known.
    Unread(Unread),
}

/// A source that has not been read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The file, or the last part of the URL.
    pub path: PathBuf,
    /// Its name without the suffixes of compression and format.
    pub stem: String,
    /// Whether it is an installer ISO.
    pub is_iso: bool,
    /// Size the guest sees in bytes, when the beginning of the file contains it.
    pub virtual_size: Option<u64>,
}

/// An opened hotfix ISO that fits its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hotfix {
    /// The file.
    pub path: PathBuf,
    /// Facts about the system after the hotfix.
    pub facts: Facts,
    /// Its digest, when it was already computed for another purpose.
    pub digest: Option<FileDigest>,
}

impl Source {
    /// Returns whether it is an installer ISO.
    #[must_use]
    pub fn is_iso(&self) -> bool {
        match self {
            Self::Iso { .. } => true,
            Self::Disk(_) => false,
            Self::Unread(unread) => unread.is_iso,
        }
    }

    /// Returns facts about the final installation: the hotfix's when one is given.
    #[must_use]
    pub fn facts(&self) -> Option<&Facts> {
        match self {
            Self::Iso { hotfix: Some(hotfix), .. } => Some(&hotfix.facts),
            Self::Iso { facts, .. } => Some(facts),
            Self::Disk(_) | Self::Unread(_) => None,
        }
    }
}
