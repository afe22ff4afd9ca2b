//! Presents the raw disk itself as a view, optionally padded with zeros. The kernel returns zeros for holes.

use std::path::Path;

use super::View;
use crate::error::Error;
use crate::field::index;
use crate::format::{Format, GuestReader};

/// The guest content of a raw, qcow2, or VHD file, presented as a raw image.
#[derive(Debug)]
pub struct RawView {
    disk: GuestReader,
    size: u64,
}

impl RawView {
    /// Opens the disk in `path` in any supported format.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self::of(GuestReader::open(path)?))
    }

    /// Presents an open disk.
    pub fn of(disk: GuestReader) -> Self {
        let size = disk.virtual_size();
        Self { disk, size }
    }

    /// Rounds the size of the disk up to a multiple of `multiple` bytes; 0 and 1 have no effect.
    #[must_use]
    pub fn padded_to(mut self, multiple: u64) -> Self {
        self.size = padded(self.disk.virtual_size(), multiple);
        self
    }
}

impl View for RawView {
    fn format(&self) -> Format {
        Format::Raw
    }

    fn virtual_size(&self) -> u64 {
        self.size
    }

    fn len(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        read_padded(&self.disk, self.size, buf, offset)
    }

    fn zeros_at(&self, offset: u64) -> Result<u64, Error> {
        padded_zeros_at(&self.disk, self.size, offset)
    }
}

/// Rounds `size` up to a multiple of `multiple`; 0 counts as 1, and a size that would overflow is not
/// changed.
pub(super) fn padded(size: u64, multiple: u64) -> u64 {
    size.checked_next_multiple_of(multiple.max(1)).unwrap_or(size)
}

/// Fills `buf` from a disk that is extended with zeros to `size` bytes.
pub(super) fn read_padded(
    disk: &GuestReader,
    size: u64,
    buf: &mut [u8],
    offset: u64,
) -> Result<usize, Error> {
    let whole = index(size.saturating_sub(offset).min(buf.len() as u64));
    let stored = disk.read_at(&mut buf[..whole], offset)?;
    buf[stored..whole].fill(0);
    Ok(whole)
}

/// Returns the number of zeros from `offset` on that are known without reading, in a disk that is extended to
/// `size` bytes.
pub(super) fn padded_zeros_at(disk: &GuestReader, size: u64, offset: u64) -> Result<u64, Error> {
    Ok(match disk.extent_at(offset)? {
        Some(extent) if extent.zero => extent.len,
        Some(_) => 0,
        None => size.saturating_sub(offset),
    })
}
