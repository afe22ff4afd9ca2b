//! Passes on the packed bytes of a file; each of them is read here exactly once.

use std::cell::Cell;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::rc::Rc;

/// Called with each piece of the packed file in order, and with an empty piece while bytes that were passed before are
/// read again; `Break` ends the work with [`crate::Kind::Cancelled`].
pub type Seen<'a> = &'a mut dyn FnMut(&[u8]) -> ControlFlow<()>;

/// How the reading of the packed file ended.
#[derive(Clone, Default)]
pub(super) struct End {
    /// Whether the caller asked to stop.
    stopped: Rc<Cell<bool>>,
    /// Whether the file itself could not be read.
    failed: Rc<Cell<bool>>,
}

impl End {
    pub(super) fn stop(&self) {
        self.stopped.set(true);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.get()
    }
}

/// The packed file, or a member of it: at most `left` bytes.
pub(super) struct Tap<'a, R> {
    source: R,
    seen: Seen<'a>,
    left: u64,
    end: End,
}

impl<'a, R: Read> Tap<'a, R> {
    /// Reads at most `left` bytes from the position of the source.
    pub(super) fn new(source: R, left: u64, seen: Seen<'a>, end: &End) -> Self {
        Self { source, seen, left, end: end.clone() }
    }
}

impl<R: Read> Read for Tap<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let got = self.source.read(&mut buf[..most]).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.end.failed.set(true);
            }
        })?;
        self.left -= got as u64;
        if got > 0 && (self.seen)(&buf[..got]).is_break() {
            self.end.stop();
            return Err(io::Error::other("stopped"));
        }
        Ok(got)
    }
}
