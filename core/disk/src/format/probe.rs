//! Which format a file has, decided by its bytes and never by its name, and checked as far as a file
//! can be checked without booting it: every table and every reference must lie inside the file.

use std::path::Path;

use super::image::Image;
use super::{Format, qcow2, raw, vhd};
use crate::error::Error;

/// How clusters of a qcow2 image are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Deflate without header, 12-bit window.
    Zlib,
    /// Zstandard; recognised, not read.
    Zstd,
}

/// What a file is. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// The format found.
    pub format: Format,
    /// A more exact name: `fixed`, `dynamic`, `differencing` for VHD, `v2`, `v3` for qcow2.
    pub variant: Option<&'static str>,
    /// The size of the disk the guest sees.
    pub virtual_size: u64,
    /// The length of the file.
    pub file_length: u64,
    /// Whether at least one cluster is compressed.
    pub compressed: bool,
    /// The compression the header declares (qcow2 only), used or not.
    pub compression: Option<Compression>,
    /// The file this image is only a difference to; such an image is not complete.
    pub backing_file: Option<String>,
    /// Whether the content is encrypted.
    pub encrypted: bool,
    /// Whether the writer did not close the image (qcow2 dirty bit): content readable, counts stale.
    pub dirty: bool,
    /// Internal snapshots (qcow2).
    pub snapshots: u32,
    /// Cluster (qcow2) or block (dynamic VHD) size.
    pub cluster_size: Option<u64>,
    /// For raw: the known format these bytes really are, such as `VMDK` or `gzip`.
    pub foreign: Option<&'static str>,
    /// Whether the virtual size is a multiple of 512 bytes.
    pub sector_aligned: bool,
}

impl Probe {
    pub(super) fn new(format: Format, image: &Image, virtual_size: u64) -> Self {
        Self {
            format,
            variant: None,
            virtual_size,
            file_length: image.len,
            compressed: false,
            compression: None,
            backing_file: None,
            encrypted: false,
            dirty: false,
            snapshots: 0,
            cluster_size: None,
            foreign: None,
            sector_aligned: virtual_size.is_multiple_of(512),
        }
    }
}

/// Finds out what `path` is and whether it is whole.
///
/// A file which claims to be qcow2 or VHD and breaks its own format is an error, not a raw disk.
/// Backing files, encryption and zstd are reported, not refused; [`super::GuestReader`] refuses them.
pub fn probe(path: &Path) -> Result<Probe, Error> {
    probe_image(&Image::open(path)?)
}

pub(super) fn probe_image(image: &Image) -> Result<Probe, Error> {
    if image.head::<4>(0)? == qcow2::MAGIC {
        return qcow2::probe(image);
    }
    if vhd::claims(image)? {
        return vhd::probe(image);
    }
    let mut probe = Probe::new(Format::Raw, image, image.len);
    probe.foreign = raw::foreign(image)?;
    Ok(probe)
}
