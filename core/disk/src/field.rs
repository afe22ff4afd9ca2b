//! Reads fixed-width numbers from byte buffers, and exact numbers of bytes from files.
//! The caller must have checked the length of the buffer: an offset out of range is a bug and panics.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, Kind};

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("slice has the length of the array")
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}

pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array(bytes, at))
}

pub(crate) fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

pub(crate) fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// Converts a byte count to an index; every platform of this crate has 64-bit indices.
pub(crate) fn index(value: u64) -> usize {
    usize::try_from(value).expect("indices are 64 bits wide")
}

/// Reads exactly `buf.len()` bytes; the error names the file and the offset at which it ends too early.
pub(crate) fn read_exact_at(
    file: &File,
    path: &Path,
    buf: &mut [u8],
    offset: u64,
) -> Result<(), Error> {
    file.read_exact_at(buf, offset).map_err(|source| {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            let need = buf.len();
            Error::new(Kind::Truncated, format!("{need} bytes are missing from"))
                .at(path)
                .at_offset(offset)
                .with_hint("the file is incomplete: fetch or create it again")
        } else {
            Error::io("cannot read", path, source).at_offset(offset)
        }
    })
}

/// Returns whether every byte is zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Comparing with a block of zeros is a memcmp, which is fast in every build profile.
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}
