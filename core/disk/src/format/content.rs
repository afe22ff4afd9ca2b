//! Defines the interface of the formats to the reader: guest content, read in pieces.

use super::image::Image;
use super::reader::Extent;
use crate::error::Error;

/// The guest content of an image that the probe of its format accepted.
pub(super) trait Content: std::fmt::Debug + Send + Sync {
    /// Returns the size of the guest's disk in bytes.
    fn virtual_size(&self) -> u64;

    /// Returns the piece size in bytes: a read must not cross a multiple of it.
    fn piece(&self) -> u64;

    /// Returns the extent at guest offset `offset`, which is inside the disk.
    fn extent(&self, image: &Image, offset: u64) -> Result<Extent, Error>;

    /// Fills `buf` from guest offset `offset`; the range is inside the disk and inside one piece.
    fn read(&self, image: &Image, buf: &mut [u8], offset: u64) -> Result<(), Error>;

    /// Returns the files beside the image that hold a part of the content.
    fn other_files(&self) -> Vec<&Image> {
        Vec::new()
    }
}
