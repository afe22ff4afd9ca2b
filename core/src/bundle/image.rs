//! Presents the image of a verified bundle as a view, which is read in place. Every chunk is compared with its digest
//! from the verification whenever it is read: a bundle that another user changes meanwhile, even through a mapping
//! that leaves its times as they were, is never sent.

use std::{
    collections::VecDeque,
    fmt,
    fs::File,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use build_image_disk::{Error, Format, Kind, view::View};
use sha2::{Digest as _, Sha256};

use super::CHUNK;

/// Number of chunks that are kept: workers read neighbouring ranges of a chunk one after the other.
const KEPT: usize = 16;

/// SHA-256 of a chunk.
pub(super) type ChunkDigest = [u8; 32];

/// A chunk that was read, with its number.
type Read = (u64, Arc<Vec<u8>>);

/// The image of a verified bundle.
pub struct BundleImage {
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    /// Offset of the image in the bundle, bytes.
    pub(super) offset: u64,
    /// Its length, bytes.
    pub(super) length: u64,
    pub(super) format: Format,
    pub(super) virtual_size: u64,
    /// The digest of each chunk.
    pub(super) digests: Vec<ChunkDigest>,
    pub(super) recent: Mutex<VecDeque<Read>>,
}

impl fmt::Debug for BundleImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BundleImage").field("path", &self.path).finish_non_exhaustive()
    }
}

impl BundleImage {
    /// Returns a chunk whose digest is the verified one.
    fn chunk(&self, number: u64) -> Result<Arc<Vec<u8>>, Error> {
        let recent = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, chunk)) = recent().iter().find(|(one, _)| *one == number) {
            return Ok(Arc::clone(chunk));
        }
        let chunk = read_chunk(&self.file, self.offset, self.length, number)
            .map_err(|source| Error::io("cannot read", &self.path, source))?;
        let digest = usize::try_from(number).ok().and_then(|number| self.digests.get(number));
        if digest != Some(&digest_of(&chunk)) {
            let text = format!("`{}` changed while it was read", self.path.display());
            return Err(Error::new(Kind::Changed, text)
                .at_offset(self.offset + number * CHUNK as u64)
                .with_hint("publish a copy that no other user can write to"));
        }
        let chunk = Arc::new(chunk);
        let mut kept = recent();
        kept.push_back((number, Arc::clone(&chunk)));
        if kept.len() > KEPT {
            kept.pop_front();
        }
        Ok(chunk)
    }
}

impl View for BundleImage {
    fn format(&self) -> Format {
        self.format
    }

    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        let left = self.length.saturating_sub(offset);
        let whole = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let mut done = 0;
        while done < whole {
            let at = offset + done as u64;
            let chunk = self.chunk(at / CHUNK as u64)?;
            let start = usize::try_from(at % CHUNK as u64).unwrap_or_default();
            let count = (chunk.len() - start).min(whole - done);
            buf[done..done + count].copy_from_slice(&chunk[start..start + count]);
            done += count;
        }
        Ok(whole)
    }
}

/// Reads a chunk of a part of a file.
pub(super) fn read_chunk(
    file: &File,
    offset: u64,
    length: u64,
    number: u64,
) -> std::io::Result<Vec<u8>> {
    let start = number * CHUNK as u64;
    let count = length.saturating_sub(start).min(CHUNK as u64);
    let mut chunk = vec![0; usize::try_from(count).unwrap_or_default()];
    file.read_exact_at(&mut chunk, offset + start)?;
    Ok(chunk)
}

/// Returns the digest of a chunk.
pub(super) fn digest_of(chunk: &[u8]) -> ChunkDigest {
    Sha256::digest(chunk).into()
}
