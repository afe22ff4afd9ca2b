//! Which format a file has, decided by its bytes and never by its name, and checked as far as a file
//! can be checked without booting it: every table and every reference must lie inside the file.

use std::path::Path;

use super::content::Content;
use super::image::Image;
use super::{Format, qcow2, raw, vdi, vhd, vhdx, vmdk};
use crate::error::Error;

/// How clusters of a qcow2 image are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Deflate without header, 12-bit window.
    Zlib,
    /// Zstandard.
    Zstd,
}

/// What a file is. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// The format found.
    pub format: Format,
    /// A more exact name: `fixed`, `dynamic`, `differencing` for VHD, VHDX and VDI, `v2`, `v3` for
    /// qcow2, the create type for VMDK.
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
    /// Whether the writer did not close the image: content readable, counts stale.
    pub dirty: bool,
    /// Internal snapshots (qcow2).
    pub snapshots: u32,
    /// Cluster (qcow2), grain (VMDK) or block (VHD, VHDX, VDI) size.
    pub cluster_size: Option<u64>,
    /// For raw: the known format these bytes really are, such as `gzip`.
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

/// A format's three questions.
pub(super) struct Known {
    /// Whether the file says it is one.
    claims: fn(&Image) -> Result<bool, Error>,
    /// What it is, after every table was checked.
    pub(super) probe: fn(&Image) -> Result<Probe, Error>,
    /// Its content, once it was checked.
    pub(super) open: fn(&Image) -> Result<Box<dyn Content>, Error>,
}

/// Every format but raw, in the order they are asked. VHD comes last: its mark may be at the end only.
const KNOWN: [Known; 5] = [
    Known { claims: qcow2::claims, probe: qcow2::probe, open: qcow2::open },
    Known { claims: vmdk::claims, probe: vmdk::probe, open: vmdk::open },
    Known { claims: vhdx::claims, probe: vhdx::probe, open: vhdx::open },
    Known { claims: vdi::claims, probe: vdi::probe, open: vdi::open },
    Known { claims: vhd::claims, probe: vhd::probe, open: vhd::open },
];

const RAW: Known = Known { claims: |_| Ok(true), probe: raw::probe, open: raw::open };

/// The format a file claims to be.
pub(super) fn find(image: &Image) -> Result<&'static Known, Error> {
    for known in &KNOWN {
        if (known.claims)(image)? {
            return Ok(known);
        }
    }
    Ok(&RAW)
}

/// Finds out what `path` is and whether it is whole.
///
/// A file which claims to have a format and breaks that format is an error, not a raw disk.
/// Backing files and encryption are reported, not refused; [`super::GuestReader`] refuses them.
pub fn probe(path: &Path) -> Result<Probe, Error> {
    let image = Image::open(path)?;
    (find(&image)?.probe)(&image)
}
