//! Unpacks to a file without a name, which the kernel removes when the last handle is closed, however the
//! process ends.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use rustix::fs::fstatvfs;

use super::stream::Stream;
use super::tap::{Seen, Tap};
use super::{Packing, packing_of};
use crate::error::{Error, Kind};
use crate::field::index;
use crate::format::{Image, write_runs};
use crate::stamp::FileStamp;

/// Number of packed bytes that are read, and of unpacked bytes that are written, at once.
const CHUNK: u64 = 1 << 20;
/// Free space in bytes that is kept for other processes.
const RESERVE: u64 = 256 << 20;
/// Maximum length in bytes, more than any disk has; the zeros of a decompression bomb need no space, but
/// time.
const MAX_LEN: u64 = 64 << 40;

/// The unpacked content of a file.
#[derive(Debug)]
pub struct Unpacked {
    /// A file without a name that holds the content.
    pub file: File,
    /// The length of the content in bytes.
    pub len: u64,
    /// The stamp of the packed file, which was the same from the first byte read to the last.
    pub source: FileStamp,
}

/// Unpacks `path` to a file without a name in `directory`. Blocks of zeros become holes.
///
/// Fails with [`Kind::Truncated`] when the packed data ends too early, [`Kind::Malformed`] when it is damaged
/// or followed by other data, [`Kind::NoSpace`] before the file system is full, [`Kind::Busy`] when another
/// process has the packed file open for writing according to qemu's rules, and [`Kind::Changed`] when the
/// packed file was written or replaced while it was read.
pub fn unpack(path: &Path, directory: &Path, seen: Seen<'_>) -> Result<Unpacked, Error> {
    let packed = Image::open_locked(path)?;
    let out = tempfile::tempfile_in(directory)
        .map_err(|source| Error::io("cannot create a file in", directory, source))?;
    let free = fstatvfs(&out).map_err(|errno| {
        Error::io("cannot look at the free space of", directory, io::Error::from(errno))
    })?;
    let free = free.f_bavail.saturating_mul(free.f_frsize);
    let room = Room { directory, left: free.saturating_sub(RESERVE) };
    let unpacked = unpack_to(&packed, &out, room, seen);
    // A change is the cause of detected damage, and of damage that is not detected.
    if !matches!(&unpacked, Err(error) if error.kind() == Kind::Cancelled) {
        packed.check_unchanged()?;
    }
    Ok(Unpacked { file: out, len: unpacked?, source: packed.stamp })
}

/// The space that may still be used.
pub(super) struct Room<'a> {
    pub(super) directory: &'a Path,
    pub(super) left: u64,
}

pub(super) fn unpack_to(
    packed: &Image,
    out: &File,
    mut room: Room<'_>,
    seen: Seen<'_>,
) -> Result<u64, Error> {
    let path = packed.path.as_path();
    let Some(packing) = packing_of(packed)? else {
        return Err(Error::new(Kind::Unsupported, "neither gzip, xz nor zstd is").at(path));
    };
    let open_error = |source| Error::io("cannot open", path, source);
    let mut file = packed.file.try_clone().map_err(open_error)?;
    file.rewind().map_err(open_error)?;
    let source = BufReader::with_capacity(index(CHUNK), Tap::new(file, seen));
    let mut stream = Stream::new(packing, source);
    let mut buf = vec![0; index(CHUNK)];
    let mut len = 0;
    loop {
        let got = fill(&mut stream, &mut buf)
            .map_err(|source| read_error(path, packing, &stream, source))?;
        if got == 0 {
            break;
        }
        let piece = &buf[..got];
        let written = write_runs(out, piece, len)
            .map_err(|source| Error::io("cannot unpack into a file in", room.directory, source))?;
        len += got as u64;
        room.take(path, written)?;
        if len > MAX_LEN {
            let message = format!("more than {MAX_LEN} bytes, no disk, are packed in");
            return Err(Error::new(Kind::Malformed, message).at(path));
        }
    }
    out.set_len(len)
        .map_err(|source| Error::io("cannot unpack into a file in", room.directory, source))?;
    Ok(len)
}

impl Room<'_> {
    fn take(&mut self, path: &Path, written: u64) -> Result<(), Error> {
        match self.left.checked_sub(written) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                let directory = self.directory.display();
                let message =
                    format!("the free space of `{directory}` does not hold the content of");
                Err(Error::new(Kind::NoSpace, message)
                    .at(path)
                    .with_hint("free some space or choose another directory, then run again"))
            }
        }
    }
}

/// Reads until the buffer is full or the stream ends.
fn fill(stream: &mut Stream<'_>, buf: &mut [u8]) -> io::Result<usize> {
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

fn read_error(path: &Path, packing: Packing, stream: &Stream<'_>, source: io::Error) -> Error {
    let tap = stream.tap();
    if tap.is_some_and(|tap| tap.stopped) {
        return Error::new(Kind::Cancelled, "unpacking was stopped:").at(path);
    }
    if tap.is_some_and(|tap| tap.failed) {
        return Error::io("cannot read", path, source);
    }
    let name = packing.name();
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
