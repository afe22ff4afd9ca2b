//! Reads a disk from a stream that can be read only once, such as a pipe. Every layer is unpacked while the stream
//! arrives; only the member of a zip archive is unpacked afterwards, because the table of contents of a zip archive is at
//! its end.

use std::io::{Cursor, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::find::{Place, Work};
use super::pour::Pouring;
use super::tap::{End, Seen, Tap};
use super::unpack::{Output, Packed};
use super::wrapping::{HEAD, Wrapping};
use crate::error::Error;
use crate::format::{Image, LockedFile};
use crate::ovf::Machine;

/// Bytes of a block in the counts of `stat`.
const BLOCK: u64 = 512;

/// A disk that was read from a stream.
#[derive(Debug)]
pub struct Piped {
    /// The outermost layer of the stream.
    pub wrapping: Option<Wrapping>,
    /// A file without a name, narrowed to the image.
    pub file: LockedFile,
    /// Bytes that the file allocates.
    pub allocated: u64,
    /// Name of the member of the archive.
    pub member: Option<String>,
    /// The machine that the archive describes (OVF).
    pub machine: Option<Machine>,
}

/// Reads `source` to its end and writes the disk in it to a file without a name in `directory`, with holes for zeros.
/// `path` names the stream in errors, and `member` the disk in an archive with several. `seen` receives every byte of the
/// stream once.
///
/// # Errors
/// As [`super::find`]; [`crate::Kind::Io`] when the stream cannot be read.
pub fn read_stream(
    source: impl Read,
    path: &Path,
    directory: &Path,
    member: Option<&str>,
    seen: Seen<'_>,
) -> Result<Piped, Error> {
    let packed = Packed { path, end: End::default() };
    let mut pouring = Pouring::new(&packed, member);
    let mut output = Output::create(directory)?;
    let mut tap = Tap::new(source, u64::MAX, &mut *seen, &packed.end);
    let mut head = Vec::new();
    let read = (&mut tap).take(HEAD as u64).read_to_end(&mut head);
    read.map_err(|error| packed.error(error))?;
    let wrapping = Wrapping::of(&head);
    let mut whole = Cursor::new(head).chain(tap);
    let (image, place, member, machine) = if wrapping == Some(Wrapping::Zip) {
        output.fill(&mut whole, &packed)?;
        let archive = Image::piped(output.file, path)?;
        let mut again = |_: &[u8]| seen(&[]);
        let work = Work { image: &archive, directory, pouring };
        let (place, done, _) = work.zip(&mut again)?;
        let (member, machine) = (done.member, done.machine);
        (archive, place, member, machine)
    } else {
        pouring.pour(&mut whole, &mut output, 0)?;
        let len = output.len;
        let image = Image::piped(output.file, path)?;
        (image, Place::Range(0, len), pouring.member, pouring.machine)
    };
    let image = match place {
        Place::Range(base, len) => image.narrowed(base, len)?,
        Place::File(file, _) => Image::piped(file, path)?,
    };
    let metadata =
        image.file.metadata().map_err(|error| Error::io("cannot look at", path, error))?;
    let allocated = metadata.blocks() * BLOCK;
    Ok(Piped { wrapping, file: LockedFile::of(image), allocated, member, machine })
}
