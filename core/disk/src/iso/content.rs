//! The bytes of one file inside an ISO, as a stream.

use std::io::{self, Read};
use std::sync::Arc;

use crate::field::index;
use crate::format::Image;

/// A file inside an ISO being read. Independent of the [`super::Iso`] it came from.
#[derive(Debug)]
pub struct Content {
    image: Arc<Image>,
    extents: Vec<(u64, u64)>,
    /// Extent being read, and bytes already read of it.
    at: (usize, u64),
    len: u64,
}

impl Content {
    pub(super) fn new(image: Arc<Image>, extents: Vec<(u64, u64)>) -> Self {
        let len = extents.iter().map(|(_, len)| len).sum();
        Self { image, extents, at: (0, 0), len }
    }

    /// Bytes of the whole file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Read for Content {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some((offset, len)) = self.extents.get(self.at.0) {
            let left = len - self.at.1;
            if left == 0 {
                self.at = (self.at.0 + 1, 0);
                continue;
            }
            let piece = index(left.min(buf.len() as u64));
            // A crate error inside an I/O error keeps path and offset.
            self.image.read(&mut buf[..piece], offset + self.at.1).map_err(io::Error::other)?;
            self.at.1 += piece as u64;
            return Ok(piece);
        }
        Ok(0)
    }
}
