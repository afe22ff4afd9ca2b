//! Writes the guest's disk to a raw file in which zeros are holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::GuestReader;
use crate::error::Error;
use crate::field::{index, is_zero};
use crate::staged::Staged;

/// Bytes read at once.
const CHUNK: u64 = 1 << 20;
/// Zeros are detected in blocks of this size, the usual block size of a file system.
const BLOCK: usize = 4096;

/// Writes the content of `reader` to `dest` as a sparse raw disk. The file appears complete or not at all.
///
/// An existing `dest` is replaced. Fails with [`crate::error::Kind::NoSpace`] on a full disk.
pub fn export_raw(reader: &GuestReader, dest: &Path) -> Result<(), Error> {
    let staged = Staged::create(dest)?;
    let size = reader.virtual_size();
    staged.file().set_len(size).map_err(|source| staged.write_error(source))?;
    let mut buf = vec![0; index(CHUNK)];
    let mut offset = 0;
    while let Some(extent) = reader.extent_at(offset)? {
        let end = offset + extent.len;
        while !extent.zero && offset < end {
            let piece = &mut buf[..index(CHUNK.min(end - offset))];
            reader.read_at(piece, offset)?;
            write_data(&staged, piece, offset)?;
            offset += piece.len() as u64;
        }
        offset = end;
    }
    staged.finish()
}

/// Writes the blocks of `piece` that are not zero, adjacent blocks in one call; returns the number of bytes written.
pub(crate) fn write_data(staged: &Staged, piece: &[u8], offset: u64) -> Result<u64, Error> {
    write_runs(staged.file(), piece, offset).map_err(|source| staged.write_error(source))
}

/// Writes the blocks of `piece` that are not zero to any file; returns the number of bytes written.
pub(crate) fn write_runs(file: &File, piece: &[u8], offset: u64) -> io::Result<u64> {
    let (mut at, mut written) = (0, 0);
    for run in runs(piece) {
        if !is_zero(&run[..BLOCK.min(run.len())]) {
            file.write_all_at(run, offset + at)?;
            written += run.len() as u64;
        }
        at += run.len() as u64;
    }
    Ok(written)
}

/// Splits `piece` into runs of blocks that are all zero or all nonzero.
fn runs(piece: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = piece;
    std::iter::from_fn(move || {
        let mut blocks = rest.chunks(BLOCK).map(|block| (is_zero(block), block.len()));
        let (first, mut len) = blocks.next()?;
        len += blocks.take_while(|(zero, _)| *zero == first).map(|(_, len)| len).sum::<usize>();
        let (run, after) = rest.split_at(len);
        rest = after;
        Some(run)
    })
}
