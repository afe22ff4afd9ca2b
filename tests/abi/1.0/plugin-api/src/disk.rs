//! The disk a provider asks for and the disk it gets.

use serde::{Deserialize, Serialize};

/// Container format of a disk image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DiskFormat {
    /// The guest's bytes, nothing else.
    Raw,
    /// QEMU copy-on-write version 2 (file format version 3, `compat=1.1`).
    #[default]
    Qcow2,
    /// Microsoft virtual hard disk.
    Vhd,
    /// VMware virtual disk.
    Vmdk,
    /// A format of a later version.
    #[serde(other)]
    Unknown,
}

impl DiskFormat {
    /// The format's word: settings, documents, file suffix.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vhd",
            Self::Vmdk => "vmdk",
            Self::Unknown => "unknown",
        }
    }
}

/// Compression inside the image format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compression {
    /// Clusters as they are.
    #[default]
    None,
    /// Deflate, as qcow2 defines it.
    Zlib,
    /// A compression of a later version.
    #[serde(other)]
    Unknown,
}

/// A request for a view of the disk that is being built. See [`crate::Context::make_disk`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskSpec {
    /// Container format.
    pub format: DiskFormat,
    /// Variant of the format where it has several (`fixed`, `dynamic`, `stream_optimized`); empty = the format's usual one.
    pub variant: String,
    /// Compression inside the format.
    pub compression: Compression,
}

impl std::fmt::Display for DiskSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let variant = if self.variant.is_empty() { "" } else { " " };
        let compression = match self.compression {
            Compression::None => "",
            Compression::Zlib => ", compressed",
            Compression::Unknown => ", compressed in an unknown way",
        };
        write!(f, "{}{variant}{}{compression}", self.format.word(), self.variant)
    }
}

/// A view of the finished disk: bytes to be read with [`crate::Context::read_disk`], not necessarily a file.
///
/// Reading may block while the image is still being written; a stop request ends such a wait with an
/// error. The image ends where a read returns fewer bytes than were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// Handle for `read_disk`; valid in this process until the provider's instance is dropped.
    pub id: u64,
    /// What was made.
    pub spec: DiskSpec,
    /// Size the guest sees, in bytes.
    pub virtual_size: u64,
    /// Length of the image, in bytes; absent while it is still being written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// The image is not longer than this, in bytes: plan part sizes with it.
    pub length_limit: u64,
    /// So many bytes at the start become readable last; 0 = everything in order. Send them last.
    pub late_head: u64,
    /// File name the host suggests, with the format's suffix; one component.
    pub file_name: String,
    /// Names content and form: equal identities have equal bytes.
    pub identity: String,
}

impl Disk {
    /// The length of an image that is finished.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] while it is still being written.
    pub fn finished_length(&self) -> crate::Result<u64> {
        self.length.ok_or_else(|| {
            crate::Error::unsupported(
                "the image is still being written, its length is not known yet",
                "ask for a format that is not compressed",
            )
        })
    }
}
