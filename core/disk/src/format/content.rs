//! What the reader asks of every format: the guest's bytes, a piece at a time.

use super::image::Image;
use super::reader::Extent;
use crate::error::Error;

/// The guest content of one image which the format's probe has accepted.
pub(super) trait Content: std::fmt::Debug + Send + Sync {
    /// The size of the guest's disk in bytes.
    fn virtual_size(&self) -> u64;

    /// Bytes: reads must not cross a multiple of it.
    fn piece(&self) -> u64;

    /// What lies at guest byte `offset`, which is inside the disk.
    fn extent(&self, image: &Image, offset: u64) -> Result<Extent, Error>;

    /// Fills `buf` from guest byte `offset`; the range is inside the disk and inside one piece.
    fn read(&self, image: &Image, buf: &mut [u8], offset: u64) -> Result<(), Error>;

    /// Files beside the image which hold a part of the content.
    fn other_files(&self) -> Vec<&Image> {
        Vec::new()
    }
}
