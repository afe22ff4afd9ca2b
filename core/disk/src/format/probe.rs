//! Detects the format of a file from its bytes, never from its name, and checks the file as far as possible
//! without booting it: every table and every reference must be inside the file.

use std::path::Path;

use super::content::Content;
use super::image::Image;
use super::{Format, qcow2, raw, vdi, vhd, vhdx, vmdk};
use crate::error::Error;
use crate::signature::Foreign;

/// The compression method of the clusters of a qcow2 image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Deflate without header, 12-bit window.
    Zlib,
    /// Zstandard.
    Zstd,
}

/// The result of a probe. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// The detected format.
    pub format: Format,
    /// The variant: `fixed`, `dynamic`, or `differencing` for VHD, VHDX, and VDI; `v2` or `v3` for qcow2; the
    /// create type for VMDK.
    pub variant: Option<&'static str>,
    /// The size of the disk the guest sees.
    pub virtual_size: u64,
    /// The length of the file.
    pub file_length: u64,
    /// Whether at least one cluster is compressed.
    pub compressed: bool,
    /// The compression the header declares (qcow2 only), used or not.
    pub compression: Option<Compression>,
    /// The backing file, if this image holds only a difference to it; such an image is incomplete.
    pub backing_file: Option<String>,
    /// Whether the content is encrypted.
    pub encrypted: bool,
    /// Whether the writer did not close the image; the content is readable, the counts are stale.
    pub dirty: bool,
    /// Number of internal snapshots (qcow2).
    pub snapshots: u32,
    /// Size of a cluster (qcow2), a grain (VMDK), or a block (VHD, VHDX, VDI).
    pub cluster_size: Option<u64>,
    /// For raw: the format, if it is a known one that is not read, or an archive.
    pub foreign: Option<Foreign>,
    /// For raw: what shows that the file is a disk: a partition table, a boot sector, or the name of a file system.
    pub evidence: Option<&'static str>,
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
            evidence: None,
            sector_aligned: virtual_size.is_multiple_of(512),
        }
    }
}

/// The functions of a format.
pub(super) struct Known {
    /// Returns whether the file has the signature of the format.
    claims: fn(&Image) -> Result<bool, Error>,
    /// Describes the image after checking every table.
    pub(super) probe: fn(&Image) -> Result<Probe, Error>,
    /// Opens the content of an image that was checked.
    pub(super) open: fn(&Image) -> Result<Box<dyn Content>, Error>,
}

/// All formats except raw, in the order of detection. VHD is last, because its signature may be at the end
/// only.
const KNOWN: [Known; 5] = [
    Known { claims: qcow2::claims, probe: qcow2::probe, open: qcow2::open },
    Known { claims: vmdk::claims, probe: vmdk::probe, open: vmdk::open },
    Known { claims: vhdx::claims, probe: vhdx::probe, open: vhdx::open },
    Known { claims: vdi::claims, probe: vdi::probe, open: vdi::open },
    Known { claims: vhd::claims, probe: vhd::probe, open: vhd::open },
];

const RAW: Known =
    Known { claims: |_| Ok(true), probe: raw::probe, open: |image| Ok(raw::open(image)) };

/// Returns the format whose signature the file has.
pub(super) fn find(image: &Image) -> Result<&'static Known, Error> {
    for format in &KNOWN {
        if (format.claims)(image)? {
            return Ok(format);
        }
    }
    Ok(&RAW)
}

/// Detects the format of `path` and checks that the image is intact.
///
/// A file that has the signature of a format and violates that format is an error, not a raw disk.
/// Backing files and encryption are reported, not refused; [`super::GuestReader`] refuses them.
pub fn probe(path: &Path) -> Result<Probe, Error> {
    let image = Image::open(path)?;
    (find(&image)?.probe)(&image)
}
