//! Reads the header of an installed package. Source: rpm, docs/manual/format_header.md, and lib/header.c for entries
//! that were added when the package was installed: they follow the region of the package, and replace its entries.
//!
//! Numbers are big-endian: the number of entries, the length of the data, the entries (tag, type, offset in the data,
//! count), the data.

use super::super::Package;
use crate::bytes::{array, index};
use crate::source::Fault;

/// Limits of rpm for the number of entries, and for the length of the data.
const MAX_ENTRIES: u32 = 0xffff;
const MAX_DATA: u32 = 0x0fff_ffff;
/// Bytes before the entries, and of an entry.
const INTRO: usize = 8;
const ENTRY: usize = 16;
/// Maximum length of a text.
const MAX_TEXT: usize = 64 << 10;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const VENDOR: u32 = 1011;
const LICENSE: u32 = 1014;
const ARCH: u32 = 1022;
const SOURCERPM: u32 = 1044;

const INT32: u32 = 4;
const STRING: u32 = 6;
/// A string in several languages; the first is that of the package.
const I18NSTRING: u32 = 9;

/// The name of what holds a key, and is not a package.
const KEY: &str = "gpg-pubkey";

/// Returns the package of a header; `None` if it is a key.
pub(super) fn package(bytes: &[u8]) -> Result<Option<Package>, Fault> {
    let header = Header::open(bytes)?;
    let text = |tag| header.text(tag);
    let needed =
        |tag, what| text(tag)?.ok_or_else(|| Fault::damaged(format!("a header has no {what}")));
    let name = needed(NAME, "name")?;
    if name == KEY {
        return Ok(None);
    }
    let version = format!("{}-{}", needed(VERSION, "version")?, needed(RELEASE, "release")?);
    let version = match header.number(EPOCH)? {
        Some(epoch) => format!("{epoch}:{version}"),
        None => version,
    };
    Ok(Some(Package {
        name,
        version,
        architecture: text(ARCH)?.unwrap_or_default(),
        source: text(SOURCERPM)?,
        maintainer: text(VENDOR)?,
        licence: text(LICENSE)?,
        kind: "rpm".to_owned(),
    }))
}

/// The type of an entry, its count, and the data from its offset on.
struct Entry<'a> {
    kind: u32,
    count: u32,
    data: &'a [u8],
}

struct Header<'a> {
    entries: &'a [u8],
    data: &'a [u8],
}

impl<'a> Header<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, Fault> {
        let open = || {
            let (count, len) = (be32(bytes, 0)?, be32(bytes, 4)?);
            if count > MAX_ENTRIES || len > MAX_DATA {
                return None;
            }
            let (entries, data) =
                bytes.get(INTRO..)?.split_at_checked(index(count.into()) * ENTRY)?;
            (data.len() == index(len.into())).then_some(Self { entries, data })
        };
        open().ok_or_else(|| Fault::damaged("the lengths of a header are malformed"))
    }

    /// Returns the last entry with a tag.
    fn entry(&self, tag: u32) -> Result<Option<Entry<'a>>, Fault> {
        let mut entries = self.entries.rchunks_exact(ENTRY);
        let Some(entry) = entries.find(|entry| be32(entry, 0) == Some(tag)) else {
            return Ok(None);
        };
        let found = || {
            let (kind, at, count) = (be32(entry, 4)?, be32(entry, 8)?, be32(entry, 12)?);
            Some(Entry { kind, count, data: self.data.get(index(at.into())..)? })
        };
        found().map(Some).ok_or_else(|| malformed(tag))
    }

    fn text(&self, tag: u32) -> Result<Option<String>, Fault> {
        let Some(Entry { kind, count, data }) = self.entry(tag)? else { return Ok(None) };
        let end = data.iter().take(MAX_TEXT).position(|byte| *byte == 0);
        let text = end.and_then(|end| data.get(..end));
        match text {
            Some(text) if [STRING, I18NSTRING].contains(&kind) && count > 0 => {
                let text = String::from_utf8_lossy(text).into_owned();
                Ok(Some(text).filter(|text| !text.is_empty()))
            }
            _ => Err(malformed(tag)),
        }
    }

    fn number(&self, tag: u32) -> Result<Option<u32>, Fault> {
        let Some(Entry { kind, count, data }) = self.entry(tag)? else { return Ok(None) };
        let value = be32(data, 0).filter(|_| kind == INT32 && count > 0);
        value.map(Some).ok_or_else(|| malformed(tag))
    }
}

fn malformed(tag: u32) -> Fault {
    Fault::damaged(format!("tag {tag} of a header is malformed"))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}
