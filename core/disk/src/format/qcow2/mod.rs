//! Reads qcow2, versions 2 and 3. Source: QEMU, docs/interop/qcow2.txt.
//! Not supported on purpose: external data files and extended L2 entries (refused), encryption (reported by
//! the probe, refused by the reader), internal snapshots (counted, never read).

mod guest;
mod header;
mod table;

pub(super) use guest::open;
pub(super) use table::probe;

use super::image::Image;
use crate::error::Error;

/// Returns whether the file starts with the qcow2 signature.
pub(super) fn claims(image: &Image) -> Result<bool, Error> {
    Ok(image.head::<4>(0)? == header::MAGIC)
}
