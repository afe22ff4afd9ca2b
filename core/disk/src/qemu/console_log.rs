//! Writes the console log to disk, bounded to its first and last bytes, so that a guest that prints without
//! end does not fill the file system. The bytes between are counted, not kept.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::error::Error;

/// Number of bytes kept from the start and from the end. A whole installation prints some hundred KiB.
const KEPT: usize = 4 << 20;

/// A log of bounded length. Its end is written by [`ConsoleLog::finish`], or when it is dropped.
#[derive(Debug)]
pub(super) struct ConsoleLog {
    file: File,
    room: usize,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl ConsoleLog {
    /// Opens the file for appending and creates it if it does not exist. Guests may print anything, so only
    /// the owner can read the file, and a symbolic link in its place is not followed.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .map_err(|source| Error::io("cannot write", path, source))?;
        Ok(Self { file, room: KEPT, tail: VecDeque::new(), left_out: 0 })
    }

    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let (head, rest) = piece.split_at(piece.len().min(self.room));
        self.file.write_all(head)?;
        self.room -= head.len();
        self.tail.extend(rest);
        let surplus = self.tail.len().saturating_sub(KEPT);
        self.tail.drain(..surplus);
        self.left_out += surplus as u64;
        Ok(())
    }

    /// Writes the end of the log.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if self.left_out > 0 {
            writeln!(self.file, "\n[build-image: {} bytes are left out here]", self.left_out)?;
            self.left_out = 0;
        }
        let (front, back) = self.tail.as_slices();
        self.file.write_all(front)?;
        self.file.write_all(back)?;
        self.tail.clear();
        Ok(())
    }
}

impl Drop for ConsoleLog {
    fn drop(&mut self) {
        // Callers that need the error call `finish`.
        let _ = self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(bytes: &[u8], piece: usize) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = ConsoleLog::open(&path).unwrap();
        for piece in bytes.chunks(piece) {
            log.write(piece).unwrap();
        }
        drop(log);
        std::fs::read(&path).unwrap()
    }

    #[test]
    fn a_log_that_fits_is_whole_however_it_is_cut() {
        for len in [0, 1, KEPT - 1, KEPT, KEPT + 1, 2 * KEPT] {
            let bytes = crate::testing::noise(len as u64, len);
            assert!(logged(&bytes, 100_003) == bytes, "{len}");
        }
    }

    #[test]
    fn of_a_longer_one_both_ends_are_kept() {
        let bytes = crate::testing::noise(9, 3 * KEPT + 17);
        let kept = logged(&bytes, 16 << 10);
        let note = format!("\n[build-image: {} bytes are left out here]\n", KEPT + 17);
        assert_eq!(kept.len(), 2 * KEPT + note.len());
        assert!(kept.starts_with(&bytes[..KEPT]) && kept.ends_with(&bytes[2 * KEPT + 17..]));
        assert_eq!(&kept[KEPT..KEPT + note.len()], note.as_bytes());
    }
}
