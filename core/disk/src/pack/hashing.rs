//! Computes the digests of a stream while it is read or written: each in its own thread, from buffers that are used
//! again.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::digest::{DigestKinds, Digests, Hashes};
use crate::error::{Error, Kind};
use crate::field::index;

/// Length of a buffer in bytes.
pub(crate) const PIECE: usize = 1 << 20;
/// Maximum number of buffers: the slowest digest may be so many pieces behind. With 24, nothing was faster.
const BUFFERS: usize = 8;

/// The digests of a stream that has not ended.
pub(crate) struct Hashing {
    workers: Vec<Worker>,
    /// Bytes that were appended and not passed on yet.
    pending: Vec<u8>,
    zeros: Option<Arc<Piece>>,
    returned: Receiver<Vec<u8>>,
    home: Sender<Vec<u8>>,
    /// Number of buffers that exist.
    buffers: usize,
}

struct Worker {
    pieces: SyncSender<(Arc<Piece>, usize)>,
    thread: JoinHandle<Digests>,
}

/// A buffer that returns when the last thread has processed it.
pub(crate) struct Piece {
    pub(crate) bytes: Vec<u8>,
    home: Sender<Vec<u8>>,
}

impl Drop for Piece {
    fn drop(&mut self) {
        // Without a receiver the stream has ended.
        let _ = self.home.send(std::mem::take(&mut self.bytes));
    }
}

impl Hashing {
    /// Starts a thread for each digest. Without digests, the stream costs nothing.
    pub(crate) fn start(kinds: DigestKinds) -> Result<Self, Error> {
        let workers = kinds.each().map(start).collect::<io::Result<_>>().map_err(|source| {
            Error::new(Kind::Io, "cannot start a thread for a digest").caused_by(source)
        })?;
        let (home, returned) = channel();
        Ok(Self { workers, pending: Vec::new(), zeros: None, returned, home, buffers: 0 })
    }

    /// Returns a buffer of [`PIECE`] bytes with any content. Waits while the threads are far behind.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        if let Ok(buffer) = self.returned.try_recv() {
            return buffer;
        }
        if self.buffers == BUFFERS
            && let Ok(buffer) = self.returned.recv()
        {
            return buffer;
        }
        self.buffers += 1;
        vec![0; PIECE]
    }

    /// Adds the first `len` bytes of a buffer that came from [`Hashing::buffer`], and returns the buffer to be read.
    pub(crate) fn add(&self, buffer: Vec<u8>, len: usize) -> Arc<Piece> {
        let piece = Arc::new(Piece { bytes: buffer, home: self.home.clone() });
        self.pass(&piece, len);
        piece
    }

    /// Adds zeros.
    pub(crate) fn add_zeros(&mut self, mut len: u64) {
        // It never returns to the other buffers.
        let (nowhere, _) = channel();
        let new = || Arc::new(Piece { bytes: vec![0; PIECE], home: nowhere });
        let zeros = Arc::clone(self.zeros.get_or_insert_with(new));
        while len > 0 {
            let now = len.min(PIECE as u64);
            self.pass(&zeros, index(now));
            len -= now;
        }
    }

    /// Adds bytes, which are copied.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.pending.capacity() == 0 {
                self.pending = self.buffer();
                self.pending.clear();
            }
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == PIECE {
                self.pass_pending();
            }
        }
    }

    fn pass_pending(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        let len = pending.len();
        pending.resize(PIECE, 0);
        self.add(pending, len);
    }

    fn pass(&self, piece: &Arc<Piece>, len: usize) {
        for worker in &self.workers {
            // `finish` reports a thread that panicked.
            let _ = worker.pieces.send((Arc::clone(piece), len));
        }
    }

    /// Returns the digests of the whole stream.
    pub(crate) fn finish(mut self) -> Result<Digests, Error> {
        if !self.pending.is_empty() {
            self.pass_pending();
        }
        let mut digests = Digests::default();
        for Worker { pieces, thread } in self.workers {
            drop(pieces);
            let one = thread
                .join()
                .map_err(|_| Error::new(Kind::Tool, "a thread that computes a digest panicked"))?;
            digests = digests.or(one);
        }
        Ok(digests)
    }
}

fn start(kind: DigestKinds) -> io::Result<Worker> {
    let (pieces, arriving) = sync_channel::<(Arc<Piece>, usize)>(BUFFERS);
    let thread = Builder::new().name("digest".to_owned()).spawn(move || {
        let mut hashes = Hashes::new(kind);
        for (piece, len) in arriving {
            hashes.update(&piece.bytes[..len]);
        }
        hashes.finish()
    })?;
    Ok(Worker { pieces, thread })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_in_any_pieces_has_the_digests_of_its_bytes() {
        let kinds = DigestKinds { md5: true, sha1: true, sha256: true, ..DigestKinds::NONE };
        let bytes = crate::testing::noise(5, 3 * PIECE + 77);
        let mut whole = bytes.clone();
        whole.extend(vec![0; 2 * PIECE + 5]);
        let mut hashing = Hashing::start(kinds).unwrap();
        // More buffers than there may be, so that they return.
        for chunk in bytes[..PIECE].chunks(PIECE / 32) {
            let mut buffer = hashing.buffer();
            buffer[..chunk.len()].copy_from_slice(chunk);
            hashing.add(buffer, chunk.len());
        }
        assert!(hashing.buffers <= BUFFERS);
        for chunk in bytes[PIECE..].chunks(70_001) {
            hashing.append(chunk);
        }
        hashing.pass_pending();
        hashing.add_zeros(2 * PIECE as u64 + 5);
        assert_eq!(hashing.finish().unwrap(), Digests::of(&whole, kinds));
        let none = Hashing::start(DigestKinds::NONE).unwrap();
        assert_eq!(none.finish().unwrap(), Digests::default());
    }
}
