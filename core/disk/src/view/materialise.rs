//! Writes a view to a file or a stream.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use super::View;
use crate::error::{Error, Kind};
use crate::format::write_data;
use crate::staged::Staged;

/// Number of bytes copied at once, which also determines how often the caller can stop the work.
const CHUNK: usize = 1 << 20;

/// Called after each piece with the number of bytes done so far; `Break` ends the work with
/// [`Kind::Cancelled`].
pub type OnProgress<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// Receives a piece of the image and its offset.
type Sink<'a> = &'a mut dyn FnMut(&[u8], u64) -> Result<(), Error>;

/// Writes the whole image to `dest`, with zeros as holes. The file appears complete or not at all; an
/// existing file is replaced. Needs the space of the image's data beside `dest` ([`Kind::NoSpace`]
/// otherwise).
pub fn materialise(view: &dyn View, dest: &Path, progress: OnProgress<'_>) -> Result<(), Error> {
    let staged = Staged::create(dest)?;
    staged.file().set_len(view.len()).map_err(|source| staged.write_error(source))?;
    each_piece(view, progress, true, &mut |piece, offset| write_data(&staged, piece, offset))?;
    staged.finish()
}

/// Writes the whole image to a stream.
pub fn copy_to(
    view: &dyn View,
    out: &mut dyn Write,
    progress: OnProgress<'_>,
) -> Result<(), Error> {
    each_piece(view, progress, false, &mut |piece, offset| {
        out.write_all(piece)
            .map_err(|source| Error::io("cannot write an image to", Path::new("stream"), source))
            .map_err(|error| error.at_offset(offset))
    })?;
    out.flush().map_err(|source| Error::io("cannot write an image to", Path::new("stream"), source))
}

/// Passes the image to `sink` piece by piece; with `skip`, ranges that are known to be zeros are left out.
fn each_piece(
    view: &dyn View,
    progress: OnProgress<'_>,
    skip: bool,
    sink: Sink<'_>,
) -> Result<(), Error> {
    let mut buf = vec![0; CHUNK];
    let mut offset = 0;
    loop {
        let zeros = if skip { view.zeros_at(offset)? } else { 0 };
        if zeros > 0 {
            offset += zeros;
        } else {
            let len = view.read_at(&mut buf, offset)?;
            if len == 0 {
                return Ok(());
            }
            sink(&buf[..len], offset)?;
            offset += len as u64;
        }
        if progress(offset).is_break() {
            return Err(Error::new(Kind::Cancelled, "writing the image was stopped"));
        }
    }
}
