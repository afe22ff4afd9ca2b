//! Passes on the packed bytes of a file; each of them is read here exactly once.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;

/// Called with each piece of the packed file in order; `Break` ends the work with [`crate::Kind::Cancelled`].
pub type Seen<'a> = &'a mut dyn FnMut(&[u8]) -> ControlFlow<()>;

/// The packed file.
pub(super) struct Tap<'a> {
    file: File,
    seen: Seen<'a>,
    /// Number of bytes read so far.
    pub(super) done: u64,
    /// Whether the caller asked to stop.
    pub(super) stopped: bool,
    /// Whether the file itself could not be read.
    pub(super) failed: bool,
}

impl<'a> Tap<'a> {
    pub(super) fn new(file: File, seen: Seen<'a>) -> Self {
        Self { file, seen, done: 0, stopped: false, failed: false }
    }
}

impl Read for Tap<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read(buf).inspect_err(|error| {
            self.failed |= error.kind() != io::ErrorKind::Interrupted;
        })?;
        self.done += got as u64;
        if got > 0 && (self.seen)(&buf[..got]).is_break() {
            self.stopped = true;
            return Err(io::Error::other("stopped"));
        }
        Ok(got)
    }
}
