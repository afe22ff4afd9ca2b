//! qcow2, versions 2 and 3, for reading. Source: QEMU, docs/interop/qcow2.txt.
//! Left out on purpose: external data files and extended L2 entries (refused), encryption (reported
//! by the probe, refused by the reader), internal snapshots (counted, never followed).

mod guest;
mod header;
mod table;

pub(super) use guest::open;
pub(super) use table::probe;

use super::image::Image;
use crate::error::Error;

/// Whether the file starts like a qcow2 image.
pub(super) fn claims(image: &Image) -> Result<bool, Error> {
    Ok(image.head::<4>(0)? == header::MAGIC)
}
