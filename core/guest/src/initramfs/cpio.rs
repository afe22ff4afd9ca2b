//! Reads the members of a cpio archive in the format newc, as a stream.

use std::io::{self, Read};

use super::bounded;
use crate::source::Source;

const HEADER: usize = 110;
/// Maximum length of a name in bytes; Linux refuses longer ones.
const MAX_NAME: u64 = 4096;
const TRAILER: &str = "TRAILER!!!";

/// Why an archive was not read to its end.
pub(super) enum Damage {
    /// It is damaged or truncated.
    Archive(String),
    /// It needs what this reader does not have.
    NotInspected(String),
    /// The inspection ended early.
    Stopped,
}

impl Damage {
    /// Returns the damage behind an error of a stream.
    pub(super) fn of(error: &io::Error, source: &Source) -> Self {
        if source.is_stopped() {
            return Self::Stopped;
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Archive("it is truncated".to_owned()),
            io::ErrorKind::OutOfMemory | io::ErrorKind::Unsupported => {
                Self::NotInspected(error.to_string())
            }
            _ => Self::Archive(format!("it is damaged: {error}")),
        }
    }
}

/// A member of an archive.
pub(super) struct Member<'a> {
    pub(super) name: String,
    content: &'a mut dyn Read,
    source: &'a Source,
}

impl Member<'_> {
    /// Returns at most the first `most` bytes of the content.
    pub(super) fn head(&mut self, most: u64) -> Result<Vec<u8>, Damage> {
        let mut bytes = Vec::new();
        match (&mut *self.content).take(most).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(Damage::of(&error, self.source)),
        }
    }
}

/// Calls `visit` for each member of one archive, up to its trailer.
pub(super) fn members(
    input: &mut impl Read,
    source: &Source,
    mut visit: impl FnMut(&mut Member<'_>) -> Result<(), Damage>,
) -> Result<(), Damage> {
    let damage = |error: io::Error| Damage::of(&error, source);
    loop {
        source.step().map_err(|_| Damage::Stopped)?;
        let mut header = [0; HEADER];
        input.read_exact(&mut header).map_err(damage)?;
        let (len, name_len) = fields(&header)?;
        let mut name = vec![0; bounded(name_len, MAX_NAME)];
        input.read_exact(&mut name).map_err(damage)?;
        let name = crate::bytes::text(&name);
        skip(input, padding(HEADER as u64 + name_len)).map_err(damage)?;
        if name == TRAILER {
            return Ok(());
        }
        let mut content = (&mut *input).take(len);
        visit(&mut Member { name, content: &mut content, source })?;
        let left = content.limit();
        skip(input, left + padding(len)).map_err(damage)?;
    }
}

/// Returns the length of the content and that of the name with its final zero.
fn fields(header: &[u8; HEADER]) -> Result<(u64, u64), Damage> {
    let malformed = || Damage::Archive("a header of its archive is malformed".to_owned());
    // 070702 has checksums, which Linux ignores.
    if !header.starts_with(b"070701") && !header.starts_with(b"070702") {
        return Err(malformed());
    }
    let number = |position: usize| {
        let digits = header.get(6 + 8 * position..14 + 8 * position);
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or_else(malformed)
    };
    let (len, name) = (number(6)?, number(11)?);
    if name == 0 || name > MAX_NAME {
        return Err(malformed());
    }
    Ok((len, name))
}

/// Returns the zeros behind a part of this length, up to a multiple of four bytes.
fn padding(len: u64) -> u64 {
    len.next_multiple_of(4) - len
}

fn skip(input: &mut impl Read, len: u64) -> io::Result<()> {
    let skipped = io::copy(&mut input.take(len), &mut io::sink())?;
    if skipped == len { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
