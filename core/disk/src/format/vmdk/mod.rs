//! Reads VMDK: monolithicSparse, streamOptimized, and descriptors whose extents are sparse, flat, or zero
//! files beside them (monolithicFlat, twoGbMaxExtent…, vmfs). Source: VMware, "Virtual Disk Format 5.0". Not
//! supported on purpose: differences to a parent (reported by the probe, refused by the reader), ESX snapshot
//! extents (VMFSSPARSE, SESPARSE), physical devices.
//!
//! A descriptor is untrusted text: it may only name files in its own directory.

mod descriptor;
mod grain;
mod guest;
mod header;
mod sparse;

pub(super) use guest::{open, probe};

use super::image::Image;
use crate::error::Error;

/// Returns whether the file starts like a sparse extent or a descriptor.
pub(super) fn claims(image: &Image) -> Result<bool, Error> {
    let head = image.part(0, descriptor::HEAD)?;
    Ok(head.starts_with(header::MAGIC) || descriptor::is_descriptor(&head))
}
