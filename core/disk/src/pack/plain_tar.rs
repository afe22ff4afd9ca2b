//! Lays out and reads uncompressed tar archives of one exact form: POSIX headers in which only name and length vary
//! (mode 644, owner 0:0, dated 1970), members one after the other, and zeros up to a whole record. Whatever differs
//! is refused, so that two readers cannot find different members in the same bytes.
//!
//! Every tar program reads these archives. Source: POSIX.1-2017 pax, "ustar Interchange Format".

use std::fs::File;
use std::path::Path;

use super::archive::{BLOCK, Flavour, header as header_of, padding, trailer};
use crate::error::{Error, Kind};
use crate::field::{be64, index, is_zero, read_exact_at};
use crate::view::Stamp;

/// The length of a header, and the unit of offsets, in bytes.
pub const HEADER: u64 = BLOCK;
/// Number of bytes that are read at once where zeros are expected.
const CHUNK: u64 = 64 << 10;

/// A member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name: one path component.
    pub name: String,
    /// Offset of its content in the archive, in bytes.
    pub offset: u64,
    /// Length of its content, in bytes.
    pub length: u64,
}

/// Returns the header of a member.
///
/// # Errors
/// [`Kind::Unsupported`] when the name is empty, too long, or not one path component.
pub fn header(name: &str, length: u64) -> Result<[u8; 512], Error> {
    header_of(name, length, Flavour::Ustar, &Stamp::new(name, 0))
}

/// Returns the offset of the header that follows a member, in bytes.
#[must_use]
pub fn next(content: u64, length: u64) -> u64 {
    content + length + padding(length)
}

/// Returns the length in bytes of an archive whose last member, with its padding, ends at `end`.
#[must_use]
pub fn length(end: u64) -> u64 {
    end + trailer(end)
}

/// Reads the members of an archive, and checks that nothing else is in it. Errors name `path`.
///
/// # Errors
/// [`Kind::Truncated`] when bytes are missing, [`Kind::Malformed`] when something differs from the form, or more than
/// `most` members are in it.
pub fn members(file: &File, path: &Path, most: usize) -> Result<Vec<Member>, Error> {
    let malformed = |text: String| Error::new(Kind::Malformed, text).at(path);
    let found = file.metadata().map_err(|error| Error::io("cannot read", path, error))?;
    let total = found.len();
    let (mut members, mut at) = (Vec::new(), 0);
    loop {
        let mut bytes = [0; 512];
        read_exact_at(file, path, &mut bytes, at)?;
        if is_zero(&bytes) {
            break;
        }
        let (name, length) = parsed(&bytes)
            .ok_or_else(|| malformed(format!("the header at byte {at} is damaged in")))?;
        if header(&name, length).map_err(|error| error.at(path))? != bytes {
            let text = "the header of member";
            return Err(malformed(format!(
                "{text} `{}` is of another form in",
                name.escape_debug()
            )));
        }
        if members.len() == most {
            return Err(malformed(format!("there are more than {most} members in")));
        }
        let offset = at + HEADER;
        let end = offset.checked_add(length).and_then(|end| end.checked_next_multiple_of(BLOCK));
        let Some(end) = end.filter(|end| *end <= total) else {
            return Err(truncated(path, &format!("member `{name}` is incomplete in")));
        };
        zeros(file, path, offset + length, end)?;
        members.push(Member { name, offset, length });
        at = end;
    }
    let expected = length(at);
    if total < expected {
        return Err(truncated(path, "the end is missing from"));
    }
    if total > expected {
        return Err(malformed(format!("{} bytes follow the end of", total - expected)));
    }
    zeros(file, path, at, total)?;
    Ok(members)
}

fn truncated(path: &Path, text: &str) -> Error {
    let hint = "the file is incomplete: fetch or create it again";
    Error::new(Kind::Truncated, text).at(path).with_hint(hint)
}

/// Returns name and length of a member; `None` if they are not readable.
fn parsed(bytes: &[u8; 512]) -> Option<(String, u64)> {
    let end = bytes[..100].iter().position(|byte| *byte == 0).unwrap_or(100);
    let name = std::str::from_utf8(&bytes[..end]).ok()?;
    let length = if bytes[124] == 0x80 {
        be64(bytes, 128)
    } else {
        u64::from_str_radix(std::str::from_utf8(&bytes[124..135]).ok()?, 8).ok()?
    };
    Some((name.to_owned(), length))
}

/// Checks that every byte between two offsets is zero.
fn zeros(file: &File, path: &Path, from: u64, to: u64) -> Result<(), Error> {
    let mut at = from;
    while at < to {
        let mut bytes = vec![0; index((to - at).min(CHUNK))];
        read_exact_at(file, path, &mut bytes, at)?;
        if !is_zero(&bytes) {
            let text = format!("bytes that belong to no member are at byte {at} in");
            return Err(Error::new(Kind::Malformed, text).at(path));
        }
        at += bytes.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn archive(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in parts {
            bytes.extend(header(name, content.len() as u64).unwrap());
            bytes.extend(*content);
            bytes.resize(index(next(0, bytes.len() as u64)), 0);
        }
        bytes.resize(index(length(bytes.len() as u64)), 0);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<Member>, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        members(&File::open(file.path()).unwrap(), file.path(), 3)
    }

    #[test]
    fn members_are_found_where_they_were_put() {
        let content = vec![7; 700];
        let found = read(&archive(&[("a", b""), ("b.json", b"{}"), ("c", &content)])).unwrap();
        let member = |name: &str, offset, length| Member { name: name.to_owned(), offset, length };
        assert_eq!(found, [member("a", 512, 0), member("b.json", 1024, 2), member("c", 2048, 700)]);
        assert_eq!(read(&archive(&[])).unwrap(), []);
    }

    #[test]
    fn sizes_from_8_gib_on_are_read() {
        for length in [0, 511, (1 << 33) - 1, 1 << 33, 1 << 44] {
            let header = header("image.raw", length).unwrap();
            assert_eq!(parsed(&header), Some(("image.raw".to_owned(), length)));
        }
    }

    #[test]
    fn every_changed_byte_outside_of_the_contents_is_refused() {
        let whole = archive(&[("a", b"first"), ("b", b"second")]);
        let contents = [512..517, 1536..1542];
        for at in (0..whole.len()).filter(|at| *at < 2100 || at % 512 < 2) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let is_content = contents.iter().any(|range| range.contains(&at));
            let found = read(&bytes);
            // Another name with the right checksum is impossible with one byte; the checksum sees it.
            assert_eq!(found.is_ok(), is_content, "byte {at}: {found:?}");
        }
    }

    #[test]
    fn what_is_cut_off_or_added_is_named() {
        let whole = archive(&[("a", b"first"), ("b", b"second")]);
        for length in [0, 1, 511, 512, 600, 1024, 2047, 2048, 2560, whole.len() - 1] {
            assert_eq!(read(&whole[..length]).unwrap_err().kind(), Kind::Truncated, "{length}");
        }
        let longer = [&whole[..], &[0; 512]].concat();
        let error = read(&longer).unwrap_err();
        assert!(error.to_string().contains("512 bytes follow the end of"), "{error}");
        let many = archive(&[("a", b""), ("b", b""), ("c", b""), ("d", b"")]);
        let error = read(&many).unwrap_err();
        assert!(error.to_string().contains("more than 3 members"), "{error}");
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for name in ["../a", "/a", "a/b", "..", ".", "", "a\nb"] {
            assert!(header(name, 0).is_err(), "{name}");
        }
        let mut bytes = archive(&[("aa", b"")]);
        bytes[..4].copy_from_slice(b"../a");
        let error = read(&bytes).unwrap_err();
        assert!(error.to_string().contains("`../a` is not a name for a member"), "{error}");
    }
}
