//! Writes the file under construction, in order or at offsets. Bytes are final from the start up to a mark,
//! which readers in other threads wait for.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::control::{Control, Progress};
use super::digest::{DigestKinds, Digests};
use super::growing::Shared;
use super::hashing::Hashing;
use crate::error::{Error, Kind};
use crate::field::index;
use crate::flush::Flusher;
use crate::staged::Staged;

/// The output of one job.
pub(super) struct Output {
    staged: Staged,
    shared: Arc<Shared>,
    control: Control,
    flusher: Flusher,
    kinds: DigestKinds,
    /// The digests so far, if every byte was appended and stays as it is.
    hashing: Option<Hashing>,
    /// The offset of the next appended byte.
    end: u64,
}

impl Output {
    /// `in_order`: whether all bytes are appended. Otherwise a start that is written last, such as the tables of a qcow2
    /// image, makes the digests wait for it.
    pub(super) fn new(
        staged: Staged,
        shared: Arc<Shared>,
        control: Control,
        kinds: DigestKinds,
        in_order: bool,
    ) -> Result<Self, Error> {
        let flusher = Flusher::start(staged.file()).map_err(|source| staged.write_error(source))?;
        let hashing = if in_order { Some(Hashing::start(kinds)?) } else { None };
        Ok(Self { staged, shared, control, flusher, kinds, hashing, end: 0 })
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
        if let Some(hashing) = &mut self.hashing {
            hashing.append(bytes);
        }
        let at = self.end;
        self.write(bytes, at)
    }

    /// Writes at an offset before, at, or after the end. Digests then require reading the file again.
    pub(super) fn write_at(&mut self, bytes: &[u8], at: u64) -> Result<(), Error> {
        self.hashing = None;
        self.write(bytes, at)
    }

    fn write(&mut self, bytes: &[u8], at: u64) -> Result<(), Error> {
        let file = self.staged.file();
        file.write_all_at(bytes, at).map_err(|source| self.staged.write_error(source))?;
        self.flusher.wrote(bytes.len() as u64);
        self.end = self.end.max(at + bytes.len() as u64);
        Ok(())
    }

    /// Moves the end without writing; the gap reads as zeros.
    pub(super) fn extend_to(&mut self, end: u64) -> Result<(), Error> {
        if let Some(hashing) = &mut self.hashing {
            hashing.add_zeros(end.saturating_sub(self.end));
        }
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
        // The digests and the last sync take their time together.
        self.flusher.flush();
        let digests = match self.hashing.take() {
            Some(hashing) => hashing.finish()?,
            None => self.read_digests()?,
        };
        let Self { staged, flusher, end, .. } = self;
        flusher.finish().map_err(|source| staged.write_error(source))?;
        staged.finish()?;
        Ok((end, digests))
    }

    fn read_digests(&self) -> Result<Digests, Error> {
        let mut hashing = Hashing::start(self.kinds)?;
        let mut at = 0;
        while at < self.end && self.kinds != DigestKinds::NONE {
            let mut buffer = hashing.buffer();
            let len = buffer.len().min(index(self.end - at));
            read_back(self.staged.file(), &mut buffer[..len], at, &self.staged)?;
            hashing.add(buffer, len);
            at += len as u64;
            if self.shared.is_cancelled() {
                return Err(Error::new(Kind::Cancelled, "packing was stopped"));
            }
        }
        hashing.finish()
    }
}

fn read_back(file: &File, buf: &mut [u8], at: u64, staged: &Staged) -> Result<(), Error> {
    file.read_exact_at(buf, at).map_err(|source| staged.write_error(source))
}
