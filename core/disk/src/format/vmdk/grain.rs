//! Checks all grain tables: every grain must be inside the file, and no two grains may share a byte. Needs 4
//! bytes of memory per stored grain.

use std::collections::HashSet;

use super::header::SECTOR;
use super::sparse::{Grain, Sparse};
use crate::error::Error;
use crate::field::le32;
use crate::format::image::Image;

/// Length of the marker before a compressed grain in bytes: its first sector, 8 bytes, and its length, 4
/// bytes.
pub(super) const MARKER: u64 = 12;

/// The range of the packed bytes of a compressed grain, from the marker before them.
pub(super) struct Packed {
    pub(super) sector: u64,
    pub(super) at: u64,
    pub(super) len: u64,
}

impl Packed {
    /// Reads the marker at offset `at`.
    pub(super) fn read(image: &Image, at: u64, grain: u64) -> Result<Self, Error> {
        if !image.holds(at, MARKER) {
            return Err(image.truncated("a VMDK grain table", at.saturating_add(MARKER)));
        }
        let raw = image.head::<12>(at)?;
        let len = u64::from(le32(&raw, 8));
        // Deflate makes incompressible data slightly longer; twice the grain size is more than it ever
        // produces.
        if len == 0 || len > grain * 2 + 1024 {
            let message = format!("a compressed VMDK grain of {len} bytes");
            return Err(image.malformed(&message).at_offset(at));
        }
        if !image.holds(at + MARKER, len) {
            return Err(image.truncated("a VMDK grain marker", at + MARKER + len));
        }
        let sector = u64::from(le32(&raw, 4)) << 32 | u64::from(le32(&raw, 0));
        Ok(Self { sector, at: at + MARKER, len })
    }
}

/// Checks every table and grain of an extent; returns whether the extent has a compressed grain.
pub(super) fn check(sparse: &Sparse, image: &Image) -> Result<bool, Error> {
    let mut tables = HashSet::new();
    // Sector numbers are 32 bits wide in the format.
    let mut starts: Vec<u32> = Vec::new();
    for (at, table) in sparse.directory.iter().enumerate().filter(|(_, table)| **table != 0) {
        // A table that is used twice would let a small file cause unlimited work.
        if !tables.insert(*table) {
            let message = format!("VMDK grain directory entry {at} points to a table in use");
            return Err(image.malformed(&message));
        }
        let base = at as u64 * sparse.header.table_span();
        for (entry, value) in sparse.table(image, at)?.iter().enumerate() {
            let guest = base + entry as u64 * sparse.header.grain;
            let Grain::Stored(offset) = sparse.grain(*value) else { continue };
            if guest >= sparse.header.capacity {
                continue;
            }
            check_one(sparse, image, guest, offset)?;
            starts.push(*value);
        }
    }
    starts.sort_unstable();
    for pair in starts.windows(2) {
        let (this, next) = (u64::from(pair[0]) * SECTOR, u64::from(pair[1]) * SECTOR);
        let len = if sparse.header.compressed {
            let packed = Packed::read(image, this, sparse.header.grain)?;
            MARKER + packed.len
        } else {
            sparse.header.grain
        };
        if this + len > next {
            return Err(image.malformed("two VMDK grains share bytes").at_offset(next));
        }
    }
    Ok(sparse.header.compressed && !starts.is_empty())
}

fn check_one(sparse: &Sparse, image: &Image, guest: u64, offset: u64) -> Result<(), Error> {
    let header = &sparse.header;
    if header.compressed {
        let packed = Packed::read(image, offset, header.grain)?;
        if packed.sector != guest / SECTOR {
            let message = format!("the VMDK grain of guest byte {guest} is marked as another's");
            return Err(image.malformed(&message).at_offset(offset));
        }
        return Ok(());
    }
    // Only the part of the last grain inside the disk must exist.
    let used = header.grain.min(header.capacity - guest);
    if image.holds(offset, used) {
        return Ok(());
    }
    let what = format!("the VMDK grain of guest byte {guest}");
    Err(image.truncated(&what, offset.saturating_add(used)))
}
