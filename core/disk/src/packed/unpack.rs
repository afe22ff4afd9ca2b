//! Unpacks to a file without a name, which the kernel removes when the last handle is closed, however the
//! process ends.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, Builder};

use rustix::fs::fstatvfs;

use super::tap::End;
use crate::error::{Error, Kind};
use crate::format::write_runs;

/// Number of packed bytes that are read, and of unpacked bytes that are written, at once.
pub(super) const CHUNK: usize = 1 << 20;
/// Number of pieces that may wait to be written.
const WAITING: usize = 2;
/// Free space in bytes that is kept for other processes.
const RESERVE: u64 = 256 << 20;
/// Maximum length in bytes, more than any disk has; the zeros of a decompression bomb need no space, but
/// time.
const MAX_LEN: u64 = 64 << 40;

/// The file that is written to, and the space that may still be used.
pub(super) struct Output<'a> {
    pub(super) file: File,
    directory: &'a Path,
    left: u64,
    /// Length of the content in bytes.
    pub(super) len: u64,
}

/// The packed file, for errors.
#[derive(Clone)]
pub(super) struct Packed<'a> {
    pub(super) path: &'a Path,
    pub(super) end: End,
}

/// The name of the layer in which an error occurred.
#[derive(Debug)]
pub(super) struct LayerError {
    pub(super) name: &'static str,
    pub(super) source: io::Error,
}

impl std::fmt::Display for LayerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.source.fmt(f)
    }
}

impl std::error::Error for LayerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.source()
    }
}

impl<'a> Output<'a> {
    /// Creates a file without a name in a directory.
    pub(super) fn create(directory: &'a Path) -> Result<Self, Error> {
        let file = tempfile::tempfile_in(directory)
            .map_err(|source| Error::io("cannot create a file in", directory, source))?;
        let free = fstatvfs(&file).map_err(|errno| {
            Error::io("cannot look at the free space of", directory, io::Error::from(errno))
        })?;
        let free = free.f_bavail.saturating_mul(free.f_frsize);
        Ok(Self { file, directory, left: free.saturating_sub(RESERVE), len: 0 })
    }

    #[cfg(test)]
    pub(super) fn with_room(mut self, left: u64) -> Self {
        self.left = left;
        self
    }

    /// Writes a stream to its end, while the next bytes are unpacked. Blocks of zeros become holes.
    pub(super) fn fill(&mut self, stream: &mut dyn Read, packed: &Packed<'_>) -> Result<(), Error> {
        let write_error =
            |source| Error::io("cannot unpack into a file in", self.directory, source);
        let (pieces, arriving) = sync_channel(WAITING);
        let (home, returned) = channel();
        let writing = Writing { file: &self.file, at: self.len, left: self.left };
        let (read, written) = thread::scope(|scope| {
            let writer = Builder::new().name("unpack".to_owned());
            let writer = writer.spawn_scoped(scope, move || writing.write(&arriving, &home))?;
            let read = read_pieces(stream, &pieces, &returned);
            drop(pieces);
            let panicked = |_| io::Error::other("a thread that writes panicked");
            Ok((read, writer.join().map_err(panicked)?))
        })
        .map_err(write_error)?;
        let Writing { at, left, .. } = match written {
            Ok(writing) => writing,
            Err(Stopped::Failed(error)) => return Err(write_error(error)),
            Err(Stopped::Full) => return Err(self.no_room(packed.path)),
            Err(Stopped::TooLong) => {
                let message = format!("more than {MAX_LEN} bytes, no disk, are packed in");
                return Err(Error::new(Kind::Malformed, message).at(packed.path));
            }
        };
        (self.len, self.left) = (at, left);
        read.map_err(|source| packed.error(source))?;
        self.file.set_len(self.len).map_err(write_error)
    }

    fn no_room(&self, path: &Path) -> Error {
        let directory = self.directory.display();
        let message = format!("the free space of `{directory}` does not hold the content of");
        Error::new(Kind::NoSpace, message)
            .at(path)
            .with_hint("free some space or choose another directory, then run again")
    }
}

/// The file as the thread that writes it sees it.
struct Writing<'f> {
    file: &'f File,
    /// Offset of the next byte.
    at: u64,
    /// Bytes that may still be written.
    left: u64,
}

/// Why a file was not written to its end.
enum Stopped {
    Failed(io::Error),
    Full,
    TooLong,
}

impl Writing<'_> {
    /// Writes pieces until there are no more, and returns their buffers.
    fn write(
        mut self,
        pieces: &Receiver<(Vec<u8>, usize)>,
        home: &Sender<Vec<u8>>,
    ) -> Result<Self, Stopped> {
        for (piece, len) in pieces {
            let written = write_runs(self.file, &piece[..len], self.at).map_err(Stopped::Failed)?;
            self.left = self.left.checked_sub(written).ok_or(Stopped::Full)?;
            self.at += len as u64;
            if self.at > MAX_LEN {
                return Err(Stopped::TooLong);
            }
            // Nothing is read any more: the buffer is not needed.
            let _ = home.send(piece);
        }
        Ok(self)
    }
}

/// Passes a stream on to its end, or until the receiver stopped.
fn read_pieces(
    stream: &mut dyn Read,
    pieces: &SyncSender<(Vec<u8>, usize)>,
    returned: &Receiver<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let mut piece = returned.try_recv().unwrap_or_else(|_| vec![0; CHUNK]);
        let got = fill(stream, &mut piece)?;
        if got == 0 || pieces.send((piece, got)).is_err() {
            return Ok(());
        }
    }
}

/// Reads until the buffer is full or the stream ends.
fn fill(stream: &mut dyn Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match stream.read(&mut buf[done..]) {
            Ok(0) => break,
            Ok(got) => done += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

impl Packed<'_> {
    /// Explains why a layer could not be read.
    pub(super) fn error(&self, source: io::Error) -> Error {
        let path = self.path;
        if self.end.is_stopped() {
            return Error::new(Kind::Cancelled, "unpacking was stopped:").at(path);
        }
        if self.end.has_failed() {
            return Error::io("cannot read", path, source);
        }
        let layer = source.get_ref().and_then(|inner| inner.downcast_ref::<LayerError>());
        let name = layer.map_or("tar", |layer| layer.name);
        if source.kind() == io::ErrorKind::UnexpectedEof {
            return Error::new(Kind::Truncated, format!("the {name} data ends too early in"))
                .at(path)
                .with_hint("the file is incomplete: fetch or create it again");
        }
        if matches!(source.kind(), io::ErrorKind::OutOfMemory) {
            let message = format!("unpacking the {name} data needs too much memory:");
            return Error::new(Kind::Unsupported, message)
                .at(path)
                .caused_by(source)
                .with_hint("pack it again with a smaller window, such as a usual level has");
        }
        Error::new(Kind::Malformed, format!("the {name} data is damaged in"))
            .at(path)
            .caused_by(source)
            .with_hint("fetch or create the file again")
    }
}
