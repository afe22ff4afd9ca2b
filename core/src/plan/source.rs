//! Defines the source of an image, as far as it is known.

use std::{path::PathBuf, sync::Arc};

use build_image_disk::installer::{FurtherMedium, Installer, System};
use build_image_plugin_api::{Architecture, BootMode, document::Located};

use crate::{bundle::Bundle, signature::FileDigest, source::GivenDisk};

/// The source of an image.
#[derive(Clone)]
pub enum Source {
    /// An installer ISO.
    Iso(Box<Iso>),
    /// A disk image.
    Disk(GivenDisk),
    /// A bundle, whose image exists already.
    Bundle(Arc<Bundle>),
    /// An object at the target, which was uploaded before.
    Object(Box<RemoteObject>),
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

/// An object at the target that an image is registered from.
#[derive(Clone, Debug, Default)]
pub struct RemoteObject {
    /// The object as the user names it.
    pub id: String,
    /// What the provider found; absent until it has looked for it.
    pub located: Option<Located>,
}

impl RemoteObject {
    /// Returns the last part of its name, without suffix.
    pub(super) fn stem(&self) -> String {
        let name = self.id.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        if stem.is_empty() { "object".to_owned() } else { stem.to_owned() }
    }

    /// Returns the size that the guest sees, bytes; 0 while it is unknown.
    pub(super) fn virtual_size(&self) -> u64 {
        self.located.as_ref().and_then(|located| located.virtual_size).unwrap_or_default()
    }

    /// Returns the architecture of its disk; x86-64 while it is unknown.
    pub(super) fn architecture(&self) -> Architecture {
        let found = self.located.as_ref().and_then(|located| located.architecture.clone());
        found.unwrap_or_else(|| "x86_64".into())
    }

    /// Returns the firmware that starts its disk; BIOS while it is unknown.
    pub(super) fn boot_mode(&self) -> BootMode {
        let found = self.located.as_ref().and_then(|located| located.boot_mode.clone());
        found.unwrap_or_else(|| "bios".into())
    }
}

/// An opened installer ISO.
#[derive(Clone)]
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
    /// Returns the disk, the bundle, or the object that exists already.
    pub(super) fn existing(self) -> (Option<GivenDisk>, Option<Arc<Bundle>>, Option<RemoteObject>) {
        match self {
            Self::Disk(disk) => (Some(disk), None, None),
            Self::Bundle(bundle) => (None, Some(bundle), None),
            Self::Object(object) => (None, None, Some(*object)),
            Self::Iso(_) | Self::Unread(_) => (None, None, None),
        }
    }

    /// Returns whether its content is not known yet.
    pub(super) fn is_unread(&self) -> bool {
        match self {
            Self::Unread(_) => true,
            Self::Object(object) => object.located.is_none(),
            Self::Iso(_) | Self::Disk(_) | Self::Bundle(_) => false,
        }
    }

    /// Returns whether it is an installer ISO.
    #[must_use]
    pub fn is_iso(&self) -> bool {
        match self {
            Self::Iso(_) => true,
            Self::Disk(_) | Self::Bundle(_) | Self::Object(_) => false,
            Self::Unread(unread) => unread.is_iso,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_object_has_neither_place_nor_suffix() {
        for (id, expected) in [
            ("acme://bucket/images/web.1.qcow2", "web.1"),
            ("acme:web", "web"),
            ("a/b/", "b"),
            ("", "object"),
            ("acme://bucket/.raw", "object"),
        ] {
            let object = RemoteObject { id: id.to_owned(), located: None };
            assert_eq!(object.stem(), expected, "{id}");
        }
    }
}
