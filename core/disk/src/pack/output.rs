//! Writes the file under construction, in order or at offsets. Bytes are final from the start up to a mark,
//! which readers in other threads wait for.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::control::{Control, Progress};
use super::digest::{DigestKinds, Digests, Hashes};
use super::growing::Shared;
use crate::error::{Error, Kind};
use crate::field::index;
use crate::staged::Staged;

/// Number of bytes read at once for a digest that could not be computed during the write.
const CHUNK: u64 = 1 << 20;

/// The output of one job.
pub(super) struct Output {
    staged: Staged,
    shared: Arc<Shared>,
    control: Control,
    kinds: DigestKinds,
    hashes: Hashes,
    /// Number of bytes that `hashes` has processed: the file from its start, unless a part was rewritten.
    hashed: u64,
    /// The offset of the next appended byte.
    end: u64,
}

impl Output {
    pub(super) fn new(
        staged: Staged,
        shared: Arc<Shared>,
        control: Control,
        kinds: DigestKinds,
    ) -> Self {
        let hashes = Hashes::new(kinds);
        Self { staged, shared, control, kinds, hashes, hashed: 0, end: 0 }
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// Returns the length so far.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Appends bytes, which become final with [`Output::publish`].
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.hashed == self.end {
            self.hashes.update(bytes);
            self.hashed += bytes.len() as u64;
        }
        let at = self.end;
        self.write(bytes, at)
    }

    /// Writes at an offset before, at, or after the end. Digests then require reading the file again.
    pub(super) fn write_at(&mut self, bytes: &[u8], at: u64) -> Result<(), Error> {
        if at < self.hashed {
            self.hashed = 0;
            self.hashes = Hashes::default();
        }
        self.write(bytes, at)
    }

    fn write(&mut self, bytes: &[u8], at: u64) -> Result<(), Error> {
        let file = self.staged.file();
        file.write_all_at(bytes, at).map_err(|source| self.staged.write_error(source))?;
        self.end = self.end.max(at + bytes.len() as u64);
        Ok(())
    }

    /// Moves the end without writing; the gap reads as zeros.
    pub(super) fn extend_to(&mut self, end: u64) -> Result<(), Error> {
        self.end = self.end.max(end);
        let file = self.staged.file();
        file.set_len(self.end).map_err(|source| self.staged.write_error(source))
    }

    /// Marks everything before `until`, except the deferred prefix, as final.
    pub(super) fn publish(&self, until: u64) {
        self.shared.publish(until);
    }

    /// Reports the progress to the caller, and ends the work if the caller requests it.
    pub(super) fn report(&self, progress: Progress) -> Result<(), Error> {
        if self.shared.is_cancelled() || self.control.report(progress).is_break() {
            return Err(Error::new(Kind::Cancelled, "packing was stopped"));
        }
        Ok(())
    }

    /// Finishes the file: computes the digests that are still missing and gives the file its name.
    pub(super) fn finish(mut self) -> Result<(u64, Digests), Error> {
        self.shared.complete(self.end);
        if self.hashed != self.end && !Hashes::new(self.kinds).is_empty() {
            self.hashes = Hashes::new(self.kinds);
            let mut buf = vec![0; index(CHUNK)];
            let mut at = 0;
            while at < self.end {
                let piece = &mut buf[..index(CHUNK.min(self.end - at))];
                read_back(self.staged.file(), piece, at, &self.staged)?;
                self.hashes.update(piece);
                at += piece.len() as u64;
                if self.shared.is_cancelled() {
                    return Err(Error::new(Kind::Cancelled, "packing was stopped"));
                }
            }
        }
        let digests = std::mem::take(&mut self.hashes).finish();
        self.staged.finish()?;
        Ok((self.end, digests))
    }
}

fn read_back(file: &File, buf: &mut [u8], at: u64, staged: &Staged) -> Result<(), Error> {
    file.read_exact_at(buf, at).map_err(|source| staged.write_error(source))
}
