//! Presents an existing image file, such as a packed one, as a view.

use std::path::Path;

use super::View;
use crate::error::Error;
use crate::field::index;
use crate::format::{Format, Image, probe};

/// An image file as a view: its own bytes, in its own format.
#[derive(Debug)]
pub struct FileView {
    image: Image,
    format: Format,
    virtual_size: u64,
}

impl FileView {
    /// Opens an image file and detects its format; refuses a broken image, see [`probe`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let found = probe(path)?;
        let image = Image::open(path)?;
        Ok(Self { image, format: found.format, virtual_size: found.virtual_size })
    }
}

impl View for FileView {
    fn format(&self) -> Format {
        self.format
    }

    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    fn len(&self) -> u64 {
        self.image.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        let whole = index(self.image.len.saturating_sub(offset).min(buf.len() as u64));
        self.image.read(&mut buf[..whole], offset)?;
        Ok(whole)
    }
}
