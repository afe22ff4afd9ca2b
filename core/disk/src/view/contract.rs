//! Defines the interface of views.

use crate::error::Error;
use crate::format::Format;

/// An image that can be read at any offset without having been written anywhere.
///
/// The bytes are the same on every read as long as the underlying disk does not change, so parts may be read
/// in any order, by several threads, and again after a failure.
pub trait View: Send + Sync {
    /// Returns the format of the image.
    fn format(&self) -> Format;

    /// Returns the size of the guest's disk in bytes.
    fn virtual_size(&self) -> u64;

    /// Returns the length of the image in bytes, which is constant.
    fn len(&self) -> u64;

    /// Returns whether the image is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from offset `offset` of the image; returns fewer bytes only at its end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error>;

    /// Returns the number of bytes from `offset` on that are known to be zeros without reading them. With 0
    /// they may still be zeros.
    fn zeros_at(&self, offset: u64) -> Result<u64, Error> {
        let _ = offset;
        Ok(0)
    }
}
