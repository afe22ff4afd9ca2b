//! Defines the source of an image, as far as it is known.

use std::{path::PathBuf, sync::Arc};

use build_image_disk::installer::{FurtherMedium, Installer, System};

use crate::{bundle::Bundle, signature::FileDigest, source::GivenDisk};

/// The source of an image.
pub enum Source {
    /// An installer ISO.
    Iso(Box<Iso>),
    /// A disk image.
    Disk(GivenDisk),
    /// A bundle, whose image exists already.
    Bundle(Arc<Bundle>),
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

/// An opened installer ISO.
pub struct Iso {
    /// The file.
    pub path: PathBuf,
    /// The installer that installs it.
    pub installer: &'static dyn Installer,
    /// What it installs.
    pub system: System,
    /// Its digest, when it was already computed for another purpose.
    pub digest: Option<FileDigest>,
    /// Further ISOs, which are installed on top.
    pub media: Vec<Medium>,
}

/// An opened further ISO that fits its base.
#[derive(Clone)]
pub struct Medium {
    /// The ISO, and what it installs.
    pub medium: FurtherMedium,
    /// Its digest, when it was already computed for another purpose.
    pub digest: Option<FileDigest>,
}

impl Source {
    /// Returns the disk or the bundle that exists on this machine already.
    pub(super) fn on_this_machine(self) -> (Option<GivenDisk>, Option<Arc<Bundle>>) {
        match self {
            Self::Disk(disk) => (Some(disk), None),
            Self::Bundle(bundle) => (None, Some(bundle)),
            Self::Iso(_) | Self::Unread(_) => (None, None),
        }
    }

    /// Returns whether it is an installer ISO.
    #[must_use]
    pub fn is_iso(&self) -> bool {
        match self {
            Self::Iso(_) => true,
            Self::Disk(_) | Self::Bundle(_) => false,
            Self::Unread(unread) => unread.is_iso,
        }
    }
}
