//! Defines what an image is made from, as far as it is known.

use std::path::PathBuf;

use crate::{
    product::{Facts, VeInfo},
    signature::FileDigest,
    source::GivenDisk,
};

/// What the image is made from, as it was found.
pub enum Source {
    /// A BIG-IP installer.
    Iso {
        /// The file.
        path: PathBuf,
        /// What it installs.
        facts: Facts,
        /// Sizes of its volumes.
        info: Box<VeInfo>,
        /// Its digest, when it was read for another reason.
        digest: Option<FileDigest>,
        /// The hotfix that goes on top.
        hotfix: Option<Box<Hotfix>>,
    },
    /// A disk image.
    Disk(GivenDisk),
    /// It must be downloaded or unpacked before its content is known.
    Unread(Unread),
}

/// What is known of a source that was not read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The file, or the last part of the URL.
    pub path: PathBuf,
    /// Its name without the endings of packing and format.
    pub stem: String,
    /// Whether it is an installer ISO.
    pub is_iso: bool,
    /// Size the guest sees in bytes, when the beginning of the file says so.
    pub virtual_size: Option<u64>,
}

/// An opened hotfix ISO that fits its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hotfix {
    /// The file.
    pub path: PathBuf,
    /// What it makes of the base.
    pub facts: Facts,
    /// Its digest, when it was read for another reason.
    pub digest: Option<FileDigest>,
}

impl Source {
    /// Whether it is an installer ISO.
    #[must_use]
    pub fn is_iso(&self) -> bool {
        match self {
            Self::Iso { .. } => true,
            Self::Disk(_) => false,
            Self::Unread(unread) => unread.is_iso,
        }
    }

    /// Facts of what will be installed in the end: the hotfix's when there is one.
    #[must_use]
    pub fn facts(&self) -> Option<&Facts> {
        match self {
            Self::Iso { hotfix: Some(hotfix), .. } => Some(&hotfix.facts),
            Self::Iso { facts, .. } => Some(facts),
            Self::Disk(_) | Self::Unread(_) => None,
        }
    }
}
