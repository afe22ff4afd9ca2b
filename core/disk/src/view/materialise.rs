//! Writes a view to a file or a stream.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use super::View;
use crate::error::{Error, Kind};
use crate::flush::Flusher;
use crate::format::write_data;
use crate::pack::{DigestKinds, Digests, Hashing, PIECE};
use crate::staged::Staged;

/// Number of known zeros that are passed over at once, which also determines how often the caller can stop the work.
const STEP: u64 = 64 << 20;

/// Called after each piece with the number of bytes done so far; `Break` ends the work with
/// [`Kind::Cancelled`].
pub type OnProgress<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// Writes the whole image to `dest`, with zeros as holes, and returns the digests of its bytes, which are computed at the
/// same time. The file appears complete or not at all; an existing file is replaced. Needs the space of the image's data
/// beside `dest` ([`Kind::NoSpace`] otherwise).
pub fn materialise(
    view: &dyn View,
    dest: &Path,
    digests: DigestKinds,
    progress: OnProgress<'_>,
) -> Result<Digests, Error> {
    write(view, Staged::create(dest)?, digests, progress)
}

/// Like [`materialise`], to a file that must not exist and that has its name from the start. It is locked while it is
/// written, and removed if that fails.
pub fn materialise_new(
    view: &dyn View,
    dest: &Path,
    digests: DigestKinds,
    progress: OnProgress<'_>,
) -> Result<Digests, Error> {
    write(view, Staged::create_new(dest)?, digests, progress)
}

fn write(
    view: &dyn View,
    staged: Staged,
    digests: DigestKinds,
    progress: OnProgress<'_>,
) -> Result<Digests, Error> {
    let (len, mut offset) = (view.len(), 0);
    staged.file().set_len(len).map_err(|source| staged.write_error(source))?;
    let mut flusher = Flusher::start(staged.file()).map_err(|source| staged.write_error(source))?;
    let mut hashing = Hashing::start(digests)?;
    while offset < len {
        let zeros = view.zeros_at(offset)?.min(len - offset);
        if zeros > 0 {
            let now = zeros.min(STEP);
            hashing.add_zeros(now);
            offset += now;
        } else {
            let mut buffer = hashing.buffer();
            let got = view.read_at(&mut buffer, offset)?;
            if got == 0 {
                let message = format!("the image ends at byte {offset}, not at {len}");
                return Err(Error::new(Kind::Malformed, message));
            }
            let piece = hashing.add(buffer, got);
            flusher.wrote(write_data(&staged, &piece.bytes[..got], offset)?);
            offset += got as u64;
        }
        if progress(offset).is_break() {
            return Err(Error::new(Kind::Cancelled, "writing the image was stopped"));
        }
    }
    // What is left is synced while the last digests are computed.
    flusher.flush();
    let digests = hashing.finish()?;
    flusher.finish().map_err(|source| staged.write_error(source))?;
    staged.finish()?;
    Ok(digests)
}

/// Writes the whole image to a stream.
pub fn copy_to(
    view: &dyn View,
    out: &mut dyn Write,
    progress: OnProgress<'_>,
) -> Result<(), Error> {
    let mut buf = vec![0; PIECE];
    let mut offset = 0;
    loop {
        let len = view.read_at(&mut buf, offset)?;
        if len == 0 {
            break;
        }
        out.write_all(&buf[..len])
            .map_err(|source| Error::io("cannot write an image to", Path::new("stream"), source))
            .map_err(|error| error.at_offset(offset))?;
        offset += len as u64;
        if progress(offset).is_break() {
            return Err(Error::new(Kind::Cancelled, "writing the image was stopped"));
        }
    }
    out.flush().map_err(|source| Error::io("cannot write an image to", Path::new("stream"), source))
}
