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

/// A view of the finished disk: bytes to be read with [`crate::Context::read_disk`], not necessarily a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Handle for `read_disk`; valid until the step's run ends.
    pub id: u64,
    /// What was made.
    pub spec: DiskSpec,
    /// Size the guest sees, in bytes.
    pub virtual_size: u64,
    /// Length of the image, in bytes.
    pub length: u64,
    /// File name the host suggests, with the format's suffix.
    #[serde(default)]
    pub file_name: String,
    /// Digest of everything the content depends on, hexadecimal: equal identities have equal bytes.
    #[serde(default)]
    pub identity: String,
}
