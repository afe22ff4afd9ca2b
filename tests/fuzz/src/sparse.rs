//! Creates files with holes from short inputs, so that an image of gigabytes is a few kilobytes to mutate.
//!
//! An input is the length of the file (6 bytes, little endian, at most [`LONGEST`]), then pieces: the number of a
//! 512-byte sector (4 bytes), a length (2 bytes), and that many bytes. `tests/fuzz/seeds` writes the same format.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Maximum length of a file that an input can request, in bytes.
pub const LONGEST: u64 = 1 << 42;
const SECTOR: u64 = 512;

/// A directory of this process below the temporary directory; `tests/fuzz/run` removes it.
pub fn directory() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let directory = std::env::temp_dir().join(format!("fuzz.{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory for inputs is needed");
        directory
    })
}

/// The pieces of an input: the length of the file, and (offset, bytes) inside it.
pub fn pieces(input: &[u8]) -> Option<(u64, Vec<(u64, Vec<u8>)>)> {
    let (head, mut rest) = input.split_at_checked(6)?;
    let mut len = [0; 8];
    len[..6].copy_from_slice(head);
    let len = u64::from_le_bytes(len) % (LONGEST + 1);
    let mut pieces = Vec::new();
    while let Some((head, after)) = rest.split_at_checked(6) {
        let sector = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let wanted = usize::from(u16::from_le_bytes([head[4], head[5]]));
        let (bytes, after) = after.split_at(wanted.min(after.len()));
        rest = after;
        let offset = u64::from(sector) * SECTOR;
        let there = usize::try_from(len.saturating_sub(offset)).expect("64 bits");
        let bytes = &bytes[..bytes.len().min(there)];
        if !bytes.is_empty() {
            pieces.push((offset, bytes.to_vec()));
        }
    }
    Some((len, pieces))
}

/// Writes an input's file; `repair` may change the pieces first. Returns `None` when the input is too short.
pub fn write(
    input: &[u8],
    name: &str,
    repair: impl FnOnce(&mut Vec<(u64, Vec<u8>)>),
) -> Option<PathBuf> {
    let (len, mut pieces) = pieces(input)?;
    repair(&mut pieces);
    let path = directory().join(name);
    let file = File::create(&path).expect("inputs can be written");
    for (offset, bytes) in pieces {
        file.write_all_at(&bytes, offset).expect("inputs can be written");
    }
    file.set_len(len).expect("inputs can be written");
    Some(path)
}

/// Writes a file unchanged.
pub fn write_whole(input: &[u8], name: &str) -> PathBuf {
    let path = directory().join(name);
    fs::write(&path, input).expect("inputs can be written");
    path
}
