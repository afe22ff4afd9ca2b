//! Parses Rock Ridge, the system use area of a directory record. Sources: SUSP 1.12 (SP, CE, ST) and RRIP
//! 1.12 (NM, PX, SL, CL, RE). Times, device numbers, sparse files, and owners are not read.

use super::entry::EntryKind;
use super::volume::SECTOR;
use crate::error::Error;
use crate::field::{index, le32};
use crate::format::Image;

/// Maximum number of continuations of a record, and maximum length of each in bytes: a sector, as in Linux.
const MAX_CONTINUATIONS: u32 = 32;
const MAX_CONTINUATION_LEN: u64 = SECTOR;
/// Maximum number of bytes that the records of one directory may have in continuation areas. Thousands of
/// records can refer to the same few sectors, so that a small file would cause unlimited work.
pub(super) const MAX_CONTINUED: u64 = 16 << 20;
/// Maximum length of a name or link target, in bytes.
const MAX_TEXT: usize = 4096;

/// The parameters of a tree that uses SUSP: the number of bytes to skip in each system use area.
#[derive(Clone, Copy, Debug)]
pub(super) struct Susp {
    skip: usize,
}

/// The Rock Ridge data of one record.
#[derive(Debug, Default)]
pub(super) struct RockRidge {
    pub(super) name: Option<Vec<u8>>,
    /// The POSIX mode, with the file type.
    pub(super) mode: Option<u32>,
    pub(super) link: Option<Vec<u8>>,
    /// The first block of the directory that this record stands for.
    pub(super) child: Option<u32>,
    pub(super) relocated: bool,
    /// Whether the last component of the link continues in the next entry.
    component_open: bool,
}

impl RockRidge {
    pub(super) fn kind(&self, directory: bool) -> EntryKind {
        if directory {
            return EntryKind::Folder;
        }
        if let Some(target) = &self.link {
            return EntryKind::Symlink(String::from_utf8_lossy(target).into_owned());
        }
        match self.mode.map(|mode| mode & 0o170_000) {
            None | Some(0 | 0o100_000) => EntryKind::File,
            Some(_) => EntryKind::Other,
        }
    }
}

impl Susp {
    /// Finds the SP entry, which is always first in the root's own record.
    pub(super) fn detect(area: &[u8]) -> Option<Self> {
        // Some writers place a few other bytes before it (CD-ROM XA: 14).
        let sp = [0, 14].into_iter().find_map(|skip| area.get(skip..skip + 7))?;
        let sp = if sp.starts_with(b"SP") { sp } else { area.get(14..21)? };
        (sp.starts_with(b"SP\x07\x01\xbe\xef")).then(|| Self { skip: usize::from(sp[6]) })
    }

    /// Reads the area of one record and all its continuations; `left` is the number of bytes that
    /// continuations may still have.
    pub(super) fn read(
        &self,
        image: &Image,
        area: &[u8],
        block: u64,
        left: &mut u64,
    ) -> Result<RockRidge, Error> {
        let mut found = RockRidge::default();
        let mut next = found.read_area(image, area.get(self.skip..).unwrap_or(&[]))?;
        let mut hops = 0;
        while let Some((start, offset, len)) = next {
            hops += 1;
            let rest = left.checked_sub(len);
            let (Some(rest), true) =
                (rest, hops <= MAX_CONTINUATIONS && len <= MAX_CONTINUATION_LEN)
            else {
                return Err(image.malformed("a Rock Ridge record goes on without end"));
            };
            *left = rest;
            let at = start * block + offset;
            if !image.holds(at, len) {
                return Err(image.truncated("a Rock Ridge record", at + len));
            }
            let mut bytes = vec![0; index(len)];
            image.read(&mut bytes, at)?;
            next = found.read_area(image, &bytes)?;
        }
        Ok(found)
    }
}

impl RockRidge {
    /// Reads the entries of one area; returns (block, offset, length) of its continuation.
    fn read_area(&mut self, image: &Image, area: &[u8]) -> Result<Option<(u64, u64, u64)>, Error> {
        let mut rest = area;
        let mut continued = None;
        while rest.len() >= 4 && rest[0] != 0 {
            let len = usize::from(rest[2]);
            if len < 4 || len > rest.len() {
                return Err(image.malformed("a broken Rock Ridge entry is stored"));
            }
            let (entry, after) = rest.split_at(len);
            rest = after;
            match (&entry[..2], len) {
                (b"ST", _) => break,
                (b"CE", 28..) => {
                    let number = |at| u64::from(le32(entry, at));
                    continued = Some((number(4), number(12), number(20)));
                }
                (b"NM", 5..) => self.read_name(image, entry)?,
                (b"PX", 12..) => self.mode = Some(le32(entry, 4)),
                (b"SL", 5..) => self.read_link(image, &entry[5..])?,
                (b"CL", 12..) => self.child = Some(le32(entry, 4)),
                (b"RE", _) => self.relocated = true,
                _ => {}
            }
        }
        Ok(continued)
    }

    fn read_name(&mut self, image: &Image, entry: &[u8]) -> Result<(), Error> {
        // Bits 1 and 2 mean "." and ".."; such records are recognised by their ISO names.
        if entry[4] & 0b110 == 0 {
            append(image, self.name.get_or_insert_default(), &entry[5..])?;
        }
        Ok(())
    }

    /// Reads components: flags, length, text. Flag 1: continues in the next component, 2: `.`, 4: `..`, 8:
    /// from the root.
    fn read_link(&mut self, image: &Image, components: &[u8]) -> Result<(), Error> {
        let mut rest = components;
        let target = self.link.get_or_insert_default();
        while let [flags, len, after @ ..] = rest {
            let Some((text, after)) = after.split_at_checked(usize::from(*len)) else {
                return Err(image.malformed("a broken Rock Ridge link is stored"));
            };
            rest = after;
            if !self.component_open && !target.is_empty() && target.last() != Some(&b'/') {
                target.push(b'/');
            }
            self.component_open = flags & 1 != 0;
            let text = match flags & 0b1110 {
                0 => text,
                2 => b".",
                4 => b"..",
                8 => b"/",
                _ => return Err(image.unsupported("a Rock Ridge link leaves the volume")),
            };
            append(image, target, text)?;
        }
        Ok(())
    }
}

fn append(image: &Image, text: &mut Vec<u8>, more: &[u8]) -> Result<(), Error> {
    if text.len() + more.len() > MAX_TEXT {
        return Err(image.malformed("an endless Rock Ridge name is stored"));
    }
    text.extend_from_slice(more);
    Ok(())
}
