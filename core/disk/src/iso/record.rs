//! Parses the records of one directory. Source: ECMA-119 section 9.1.

use super::entry::{Entry, EntryKind};
use super::rockridge::{MAX_CONTINUED, RockRidge, Susp};
use super::volume::{Root, SECTOR};
use crate::error::Error;
use crate::field::{index, le32};
use crate::format::Image;

/// Maximum length of a directory in bytes, enough for about 25,000 names.
const MAX_DIRECTORY: u64 = 4 << 20;

const DIRECTORY: u8 = 1 << 1;
const ASSOCIATED: u8 = 1 << 2;
const MULTI_EXTENT: u8 = 1 << 7;

/// The encoding of names in a tree.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dialect {
    /// Upper-case names with versions.
    Plain,
    /// Names and other data in the system use area; holds the number of bytes to skip there.
    RockRidge(Susp),
    /// UCS-2.
    Joliet,
}

/// A record as it is stored in the directory.
struct Record<'a> {
    raw: &'a [u8],
    offset: u64,
}

impl<'a> Record<'a> {
    fn flags(&self) -> u8 {
        self.raw[25]
    }

    fn name(&self) -> &'a [u8] {
        &self.raw[33..33 + usize::from(self.raw[32])]
    }

    fn is_self_or_parent(&self) -> bool {
        matches!(self.name(), [0] | [1])
    }

    fn system_use(&self) -> &'a [u8] {
        // The name is padded so that the area starts at an even offset.
        let start = 33 + usize::from(self.raw[32]) + usize::from(self.raw[32].is_multiple_of(2));
        self.raw.get(start..).unwrap_or(&[])
    }

    /// Returns (offset, length) in bytes; the extended attribute record before the data is skipped.
    fn extent(&self, block: u64) -> (u64, u64) {
        let first = u64::from(le32(self.raw, 2)) + u64::from(self.raw[1]);
        (first * block, u64::from(le32(self.raw, 10)))
    }
}

/// Splits a directory into records, which never cross a sector border.
fn records<'a>(image: &Image, bytes: &'a [u8], start: u64) -> Result<Vec<Record<'a>>, Error> {
    let mut found = Vec::new();
    let sector_len = index(SECTOR);
    for (number, sector) in bytes.chunks(sector_len).enumerate() {
        let mut at = 0;
        while at < sector.len() && sector[at] != 0 {
            let len = usize::from(sector[at]);
            let offset = start + (number * sector_len + at) as u64;
            let fits = len >= 34 && at + len <= sector.len();
            if !fits || 33 + usize::from(sector[at + 32]) > len {
                return Err(image.malformed("a broken ISO directory record").at_offset(offset));
            }
            found.push(Record { raw: &sector[at..at + len], offset });
            at += len;
        }
    }
    Ok(found)
}

/// Refuses a directory that is larger than any valid one, also if it has several extents.
pub(super) fn check_length(image: &Image, len: u64, offset: u64) -> Result<(), Error> {
    if len <= MAX_DIRECTORY {
        return Ok(());
    }
    let message = format!("an ISO directory of {len} bytes is not believable,");
    Err(image.malformed(&message).at_offset(offset))
}

fn directory_bytes(image: &Image, place: Root) -> Result<Vec<u8>, Error> {
    check_length(image, place.len, place.offset)?;
    if !image.holds(place.offset, place.len) {
        return Err(image.truncated("an ISO directory", place.offset + place.len));
    }
    let mut bytes = vec![0; index(place.len)];
    image.read(&mut bytes, place.offset)?;
    Ok(bytes)
}

/// Checks the root's own record for the Rock Ridge signature.
pub(super) fn detect(image: &Image, root: Root) -> Result<Dialect, Error> {
    let bytes = directory_bytes(image, Root { len: root.len.min(SECTOR), ..root })?;
    let first = records(image, &bytes, root.offset)?.into_iter().next();
    let susp = first.and_then(|record| Susp::detect(record.system_use()));
    Ok(susp.map_or(Dialect::Plain, Dialect::RockRidge))
}

/// Returns all entries of a directory except itself and its parent.
pub(super) fn read_directory(
    image: &Image,
    place: Root,
    block: u64,
    dialect: Dialect,
) -> Result<Vec<Entry>, Error> {
    let bytes = directory_bytes(image, place)?;
    let mut tree = Tree { image, block, dialect, left: MAX_CONTINUED };
    let mut entries: Vec<Entry> = Vec::new();
    // The records of a file with several extents are consecutive; only the last one lacks the flag.
    let mut pieces: Vec<(u64, u64)> = Vec::new();
    for record in records(image, &bytes, place.offset)? {
        if record.is_self_or_parent() || record.flags() & ASSOCIATED != 0 {
            continue;
        }
        if record.raw[26] != 0 || record.raw[27] != 0 {
            return Err(image
                .unsupported("an interleaved ISO file is stored")
                .at_offset(record.offset));
        }
        pieces.push(record.extent(block));
        if record.flags() & MULTI_EXTENT != 0 {
            continue;
        }
        let extents = std::mem::take(&mut pieces);
        if let Some(entry) = tree.entry(&record, extents)? {
            entries.push(entry);
        }
    }
    if pieces.is_empty() {
        Ok(entries)
    } else {
        Err(image.malformed("an ISO file lacks its last extent").at_offset(place.offset))
    }
}

/// The properties of the tree whose records are read.
struct Tree<'a> {
    image: &'a Image,
    block: u64,
    dialect: Dialect,
    /// The number of bytes that the records of the directory may still have in continuation areas.
    left: u64,
}

impl Tree<'_> {
    fn entry(
        &mut self,
        record: &Record<'_>,
        extents: Vec<(u64, u64)>,
    ) -> Result<Option<Entry>, Error> {
        let Self { image, block, dialect, .. } = *self;
        let rock_ridge = match dialect {
            Dialect::RockRidge(susp) => {
                susp.read(image, record.system_use(), block, &mut self.left)?
            }
            Dialect::Plain | Dialect::Joliet => RockRidge::default(),
        };
        // A directory that was relocated from too deep in the tree; it is reached through its child link.
        if rock_ridge.relocated {
            return Ok(None);
        }
        let name = match dialect {
            Dialect::Joliet => joliet_name(record.name()),
            Dialect::Plain | Dialect::RockRidge(_) => match &rock_ridge.name {
                Some(name) => String::from_utf8_lossy(name).into_owned(),
                None => plain_name(record.name()),
            },
        };
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            let message = format!("the impossible file name {name:?} is stored");
            return Err(image.malformed(&message).at_offset(record.offset));
        }
        let mut entry = Entry {
            name,
            kind: rock_ridge.kind(record.flags() & DIRECTORY != 0),
            size: extents.iter().map(|(_, len)| len).sum(),
            mode: rock_ridge.mode.map(|mode| mode & 0o7777),
            extents,
        };
        if let Some(child) = rock_ridge.child {
            let offset = u64::from(child) * block;
            entry.kind = EntryKind::Folder;
            entry.size = own_length(image, offset)?;
            entry.extents = vec![(offset, entry.size)];
        }
        Ok(Some(entry))
    }
}

/// Returns the length that a directory declares in its first record, which describes the directory itself.
fn own_length(image: &Image, offset: u64) -> Result<u64, Error> {
    let bytes = directory_bytes(image, Root { offset, len: SECTOR })?;
    match records(image, &bytes, offset)?.first() {
        Some(record) if record.name() == [0] => Ok(u64::from(le32(record.raw, 10))),
        _ => {
            Err(image.malformed("a Rock Ridge child link leads to no directory").at_offset(offset))
        }
    }
}

/// Removes the version: `README.TXT;1` → `README.TXT`, `KERNEL.;1` → `KERNEL`.
fn plain_name(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let name = text.split(';').next().unwrap_or_default();
    name.strip_suffix('.').unwrap_or(name).to_owned()
}

fn joliet_name(raw: &[u8]) -> String {
    let units: Vec<u16> =
        raw.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let text = String::from_utf16_lossy(&units);
    match text.rsplit_once(';') {
        Some((name, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => {
            name.to_owned()
        }
        _ => text,
    }
}
