//! Streams the bytes of a file inside an ISO.

use std::io::{self, Read};
use std::sync::Arc;

use crate::field::index;
use crate::format::Image;

/// A reader for a file inside an ISO. Independent of the [`super::Iso`] that created it.
#[derive(Debug)]
pub struct Content {
    image: Arc<Image>,
    extents: Vec<(u64, u64)>,
    /// The current extent, and the number of bytes read from it.
    at: (usize, u64),
    len: u64,
}

impl Content {
    pub(super) fn new(image: Arc<Image>, extents: Vec<(u64, u64)>) -> Self {
        let len = extents.iter().map(|(_, len)| len).sum();
        Self { image, extents, at: (0, 0), len }
    }

    /// Returns the length of the whole file in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether the file is empty.
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
            // An error of this crate inside an I/O error keeps its path and offset.
            self.image.read(&mut buf[..piece], offset + self.at.1).map_err(io::Error::other)?;
            self.at.1 += piece as u64;
            return Ok(piece);
        }
        Ok(0)
    }
}
