//! Unpacks to a file without a name, which the kernel removes when the last handle is closed, however the
//! process ends.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::fstatvfs;

use super::tap::End;
use crate::error::{Error, Kind};
use crate::format::write_runs;

/// Number of packed bytes that are read, and of unpacked bytes that are written, at once.
pub(super) const CHUNK: usize = 1 << 20;
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

    /// Writes a stream to its end. Blocks of zeros become holes.
    pub(super) fn fill(&mut self, stream: &mut dyn Read, packed: &Packed<'_>) -> Result<(), Error> {
        let write_error =
            |source| Error::io("cannot unpack into a file in", self.directory, source);
        let mut buf = vec![0; CHUNK];
        loop {
            let got = fill(stream, &mut buf).map_err(|source| packed.error(source))?;
            if got == 0 {
                break;
            }
            let written = write_runs(&self.file, &buf[..got], self.len).map_err(write_error)?;
            self.len += got as u64;
            self.left = match self.left.checked_sub(written) {
                Some(left) => left,
                None => return Err(self.no_room(packed.path)),
            };
            if self.len > MAX_LEN {
                let message = format!("more than {MAX_LEN} bytes, no disk, are packed in");
                return Err(Error::new(Kind::Malformed, message).at(packed.path));
            }
        }
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
