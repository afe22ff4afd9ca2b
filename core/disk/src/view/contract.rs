//! What every view offers.

use crate::error::Error;
use crate::format::Format;

/// An image that can be read at any place without having been written anywhere.
///
/// The bytes are the same on every read as long as the disk underneath does not change, so parts may
/// be read in any order, by several threads, and again after a failure.
pub trait View: Send + Sync {
    /// The format of the image.
    fn format(&self) -> Format;

    /// The size of the guest's disk in bytes.
    fn virtual_size(&self) -> u64;

    /// The length of the image in bytes, fixed from the start.
    fn len(&self) -> u64;

    /// Whether the image has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from byte `offset` of the image; fewer bytes only at its end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error>;

    /// How many bytes from `offset` on are known to be zeros without reading them; 0 promises nothing.
    fn zeros_at(&self, offset: u64) -> Result<u64, Error> {
        let _ = offset;
        Ok(0)
    }
}
