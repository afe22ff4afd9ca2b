//! Reads the write-ahead log of SQLite: pages of transactions that may not be in the database yet. Source: SQLite,
//! "Database File Format", section 4. As in SQLite, the log ends before the first frame that is not valid, and what
//! follows the last commit does not count.

use std::collections::HashMap;

use crate::bytes::{array, index};
use crate::source::Fault;

const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;
const HEADER: usize = 32;
const FRAME: usize = 24;

/// The committed pages of a log.
pub(super) struct Log<'a> {
    bytes: &'a [u8],
    page: usize,
    /// The offset of the newest version of each page.
    places: HashMap<u32, usize>,
    /// The number of pages of the database after the last commit.
    pages: Option<usize>,
}

/// The checksum of everything before a place.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sum {
    big_endian: bool,
    value: (u32, u32),
}

impl Sum {
    fn add(mut self, bytes: &[u8]) -> Self {
        let word = |raw| {
            if self.big_endian { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) }
        };
        let (mut one, mut two) = self.value;
        for pair in bytes.chunks_exact(8) {
            let (Some(first), Some(second)) = (array(pair, 0), array(pair, 4)) else { continue };
            one = one.wrapping_add(word(first)).wrapping_add(two);
            two = two.wrapping_add(word(second)).wrapping_add(one);
        }
        self.value = (one, two);
        self
    }
}

impl<'a> Log<'a> {
    /// Reads a log for pages of this size; an empty one has no pages.
    pub(super) fn open(bytes: &'a [u8], page: usize) -> Result<Self, Fault> {
        let mut log = Self { bytes, page, places: HashMap::new(), pages: None };
        let Some(magic) = be32(bytes, 0).filter(|magic| magic & !1 == MAGIC) else {
            return Ok(log);
        };
        let sum = Sum { big_endian: magic & 1 == 1, value: (0, 0) };
        let sum = sum.add(bytes.get(..HEADER - 8).unwrap_or_default());
        if pair(bytes, HEADER - 8) != Some(sum.value) {
            return Ok(log);
        }
        if be32(bytes, 4) != Some(VERSION)
            || be32(bytes, 8).map(|len| index(len.into())) != Some(page)
        {
            return Err(Fault::damaged("its log does not belong to it, or has another version"));
        }
        log.frames(sum);
        Ok(log)
    }

    fn frames(&mut self, mut sum: Sum) {
        let salt = array::<8>(self.bytes, 16);
        // Pages that are not committed yet.
        let mut pending = Vec::new();
        let mut at = HEADER;
        while let Some(frame) = self.bytes.get(at..at + FRAME + self.page) {
            let (head, content) = frame.split_at(FRAME);
            let (Some(number), Some(pages)) = (be32(head, 0), be32(head, 4)) else { return };
            sum = sum.add(head.get(..8).unwrap_or_default()).add(content);
            if number == 0 || array(head, 8) != salt || pair(head, 16) != Some(sum.value) {
                return;
            }
            pending.push((number, at + FRAME));
            if pages > 0 {
                self.places.extend(pending.drain(..));
                self.pages = Some(index(pages.into()));
            }
            at += frame.len();
        }
    }

    pub(super) fn pages(&self) -> Option<usize> {
        self.pages
    }

    /// Returns the length in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn page(&self, number: u32) -> Option<&'a [u8]> {
        let at = *self.places.get(&number)?;
        self.bytes.get(at..at + self.page)
    }
}

fn pair(bytes: &[u8], at: usize) -> Option<(u32, u32)> {
    Some((be32(bytes, at)?, be32(bytes, at + 4)?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}
