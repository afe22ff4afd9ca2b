//! Describes the disk that a provider requests and the view that it gets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::DiskVariant;

/// Container format of a disk image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
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
    /// Returns the format's word: settings, documents, file suffix.
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
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compression {
    /// Clusters are not compressed.
    #[default]
    None,
    /// Deflate, as qcow2 defines it.
    Zlib,
    /// A compression of a later version.
    #[serde(other)]
    Unknown,
}

/// File around an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Archive {
    /// The image itself.
    #[default]
    None,
    /// A gzip-compressed tar file with the image as its only member.
    TarGz,
    /// A ZIP file with the image, and the files of [`DiskSpec::ovf`] when there are any.
    Zip,
    /// Open Virtual Appliance: an uncompressed tar file with descriptor, manifest and image. Requires
    /// [`DiskSpec::ovf`].
    Ova,
    /// An archive of a later version.
    #[serde(other)]
    Unknown,
}

impl Archive {
    /// Returns the archive's word: documents, messages, file suffix.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "",
            Self::TarGz => "tar.gz",
            Self::Zip => "zip",
            Self::Ova => "ova",
            Self::Unknown => "unknown",
        }
    }
}

/// A request for a view of the disk that is being built. See [`crate::Context::make_disk`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct DiskSpec {
    /// Container format.
    pub format: DiskFormat,
    /// Variant of a format that has several (`fixed`, `dynamic`, `stream_optimized`, `v2`); empty = the format's
    /// default.
    pub variant: DiskVariant,
    /// Compression inside the format.
    pub compression: Compression,
    /// File around the image.
    pub archive: Archive,
    /// File name of the image inside the archive, one component; empty = the host chooses.
    pub member: String,
    /// Suffix of the file without its leading dot; empty = the archive's, or the format's.
    pub suffix: String,
    /// Virtual machine that is described beside the image in a ZIP or OVA file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ovf: Option<crate::Ovf>,
}

impl DiskSpec {
    /// Returns the suffix of the file, without a dot: the requested suffix, the archive's or the format's.
    #[must_use]
    pub fn file_suffix(&self) -> &str {
        match (self.suffix.as_str(), self.archive) {
            ("", Archive::None) => self.format.word(),
            ("", archive) => archive.word(),
            (suffix, _) => suffix,
        }
    }

    /// Returns the same image without an archive around it.
    #[must_use]
    pub fn bare(&self) -> Self {
        let Self { format, compression, .. } = *self;
        Self { format, compression, variant: self.variant.clone(), ..Self::default() }
    }
}

impl std::fmt::Display for DiskSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let variant = if self.variant == DiskVariant::FormatDefault { "" } else { " " };
        let compression = match self.compression {
            Compression::None => "",
            Compression::Zlib => ", compressed",
            Compression::Unknown => ", compressed in an unknown way",
        };
        write!(f, "{}{variant}{}{compression}", self.format.word(), self.variant)?;
        if self.archive == Archive::None {
            Ok(())
        } else {
            write!(f, " in {}", self.archive.word())
        }
    }
}

/// A view of the finished disk: bytes to be read with [`crate::Context::read_disk`], not necessarily a file.
///
/// Reading may block while the image is still being written; a stop request ends such a wait with an error. The
/// image ends where a read returns fewer bytes than were requested.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Disk {
    /// Handle for `read_disk`; valid in this process until the provider's instance is dropped.
    pub id: u64,
    /// The format that was made.
    pub spec: DiskSpec,
    /// Size the guest sees, in bytes.
    pub virtual_size: u64,
    /// Length of the image, in bytes; absent while it is still being written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Upper bound of the image's length, in bytes: plan part sizes with it.
    pub length_limit: u64,
    /// The first bytes of the image, this many, become readable only when the rest is complete; upload them last.
    /// 0 = the image can be read in order.
    #[serde(rename = "late_head")]
    pub deferred_prefix_len: u64,
    /// File name the host suggests, with the format's suffix; one component.
    pub file_name: String,
    /// Identifies content and format: images with equal identities have equal bytes.
    pub identity: String,
}

impl Disk {
    /// Returns the length of a complete image.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] while it is still being written.
    pub fn finished_length(&self) -> crate::Result<u64> {
        self.length.ok_or_else(|| {
            crate::Error::unsupported(
                "the image is still being written, its length is not known yet",
                "ask for a format that is not compressed, or read until a read returns fewer bytes",
            )
        })
    }
}

/// A disk that the host wrote to a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct WrittenDisk {
    /// Length of the file in bytes.
    pub length: u64,
    /// Digests of the file that the host computed, such as `md5` and `sha256`, as lower-case hexadecimal digits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<String, String>,
}

impl WrittenDisk {
    /// Describes a file without digests.
    #[must_use]
    pub fn new(length: u64) -> Self {
        Self { length, ..Self::default() }
    }

    /// Adds digests.
    #[must_use]
    pub fn digests<N: Into<String>>(
        mut self,
        digests: impl IntoIterator<Item = (N, String)>,
    ) -> Self {
        self.digests.extend(digests.into_iter().map(|(name, digest)| (name.into(), digest)));
        self
    }
}
