//! The raw disk itself as a view. Holes read as zeros: the kernel does that.

use std::path::Path;

use super::View;
use crate::error::Error;
use crate::field::index;
use crate::format::{Format, GuestReader};

/// The guest content of a raw, qcow2 or VHD file, shown as a raw image.
#[derive(Debug)]
pub struct RawView {
    disk: GuestReader,
}

impl RawView {
    /// Opens the disk in `path`, whatever its format.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self::of(GuestReader::open(path)?))
    }

    /// Shows a disk that is open already.
    pub fn of(disk: GuestReader) -> Self {
        Self { disk }
    }
}

impl View for RawView {
    fn format(&self) -> Format {
        Format::Raw
    }

    fn virtual_size(&self) -> u64 {
        self.disk.virtual_size()
    }

    fn len(&self) -> u64 {
        self.disk.virtual_size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        let there = self.len().saturating_sub(offset).min(buf.len() as u64);
        self.disk.read_at(&mut buf[..index(there)], offset)
    }
}
