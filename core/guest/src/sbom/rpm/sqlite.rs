//! Reads the table `Packages` of rpmdb.sqlite. Source: SQLite, "Database File Format"; rpm, lib/backend/sqlite.c: the
//! table has the columns `hnum` and `blob`, the header.
//!
//! Nothing but this table is read: neither indexes, nor the list of free pages. Each page is used at most once and the
//! cells of a page cannot be longer than it, so loops and overlaps end in an error.

use super::Found;
use super::wal::Log;
use crate::bytes::{array, index};
use crate::source::Fault;

const MAGIC: &[u8] = b"SQLite format 3\0";
/// Length of the header of the file, which is on page 1.
const FILE_HEADER: usize = 100;
/// Highest version of the format; 2 has a write-ahead log.
const MAX_VERSION: u8 = 2;
/// Number of the encoding UTF-8; a new database has 0.
const UTF_8: [u32; 2] = [0, 1];
/// Smallest usable size of a page.
const MIN_USABLE: usize = 480;
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;
/// Maximum depth of a tree; SQLite has the same limit.
const MAX_DEPTH: usize = 20;

/// Adds all packages.
pub(super) fn read(file: &[u8], log: &[u8], found: &mut Found<'_>) -> Result<(), Fault> {
    // SQLite does not look at the log of an empty database.
    if file.is_empty() {
        return Ok(());
    }
    let mut database = Database::open(file, log)?;
    let mut root = None;
    database.table(1, found, &mut |_, payload| {
        let text = |column| Some(value(payload, column)?.1);
        if text(0) == Some(b"table") && text(1) == Some(b"Packages") {
            root = text(3).filter(|raw| raw.len() <= 4).map(number);
        }
        Ok(())
    })?;
    let root = root.ok_or_else(|| Fault::damaged("it has no table `Packages`"))?;
    database.table(root, found, &mut |found, payload| match value(payload, 1) {
        Some((true, header)) => found.add(header),
        _ => Err(Fault::damaged("a row of the table `Packages` is malformed")),
    })
}

struct Database<'a> {
    file: &'a [u8],
    log: Log<'a>,
    /// Bytes of a page, and those of them that SQLite uses.
    page: usize,
    usable: usize,
    /// Whether a page was used, by its number.
    used: Vec<bool>,
}

type Visit<'v, 'f> = &'v mut dyn FnMut(&mut Found<'f>, &[u8]) -> Result<(), Fault>;

impl<'a> Database<'a> {
    fn open(file: &'a [u8], log: &'a [u8]) -> Result<Self, Fault> {
        let malformed = || Fault::damaged("its header is malformed");
        if file.get(..MAGIC.len()) != Some(MAGIC) {
            return Err(Fault::damaged("it is not a database of SQLite"));
        }
        let page = match array(file, 16).map(u16::from_be_bytes) {
            Some(1) => 1 << 16,
            Some(page) if page >= 512 && page.is_power_of_two() => usize::from(page),
            _ => return Err(malformed()),
        };
        let log = Log::open(log, page)?;
        let first = log.page(1).or_else(|| file.get(..page)).ok_or_else(malformed)?;
        let byte = |at: usize| first.get(at).copied().ok_or_else(malformed);
        if byte(19)? > MAX_VERSION {
            return Err(Fault::damaged(format!("its format has version {}", byte(19)?)));
        }
        let encoding = array(first, 56).map(u32::from_be_bytes).ok_or_else(malformed)?;
        let usable = page.saturating_sub(byte(20)?.into());
        if !UTF_8.contains(&encoding) || usable < MIN_USABLE {
            return Err(malformed());
        }
        // The number of pages in the header counts if the last change was made by a program that knows it.
        let declared =
            be32(first, 28).filter(|pages| *pages > 0 && array::<4>(first, 24) == array(first, 92));
        let there = log.pages().unwrap_or(file.len() / page);
        let pages = declared.map_or(there, |pages| index(pages.into()));
        // A page is in the file or in the log, so their lengths limit what is allocated.
        if pages > there || pages > (file.len() + log.len()) / page {
            return Err(Fault::damaged("it is truncated"));
        }
        Ok(Self { file, log, page, usable, used: vec![false; pages + 1] })
    }

    /// Returns the usable part of a page that was not used before.
    fn page(&mut self, number: u32, found: &Found<'_>) -> Result<&'a [u8], Fault> {
        found.step()?;
        let place = index(number.into());
        match self.used.get_mut(place) {
            Some(used) if !*used && number > 0 => *used = true,
            Some(_) if number > 0 => {
                return Err(Fault::damaged(format!("page {number} is used twice")));
            }
            _ => return Err(Fault::damaged(format!("it refers to page {number}"))),
        }
        let in_file = || {
            let start = (place - 1) * self.page;
            self.file.get(start..start + self.page)
        };
        let page = self.log.page(number).or_else(in_file);
        let page = page.and_then(|page| page.get(..self.usable));
        page.ok_or_else(|| Fault::damaged(format!("page {number} is missing")))
    }

    /// Calls `visit` with every row of the table whose tree begins at `root`, in the order of the rows.
    fn table<'f>(
        &mut self,
        root: u32,
        found: &mut Found<'f>,
        visit: Visit<'_, 'f>,
    ) -> Result<(), Fault> {
        // Pages that are to be visited, the next one at the end, with their depth.
        let mut next = vec![(root, 0)];
        let mut last = None;
        while let Some((number, depth)) = next.pop() {
            let page = self.page(number, found)?;
            let malformed = || Fault::damaged(format!("page {number} is malformed"));
            let start = if number == 1 { FILE_HEADER } else { 0 };
            let kind = *page.get(start).ok_or_else(malformed)?;
            let count = be16(page, start + 3).ok_or_else(malformed)?;
            let pointers = start + if kind == INTERIOR { 12 } else { 8 };
            let cells = (0..count).map(|cell| be16(page, pointers + 2 * cell));
            let cells = cells.map(|at| at.and_then(|at| page.get(at..)).ok_or_else(malformed));
            if kind == INTERIOR && depth < MAX_DEPTH {
                let right = be32(page, start + 8).ok_or_else(malformed)?;
                let left =
                    cells.map(|cell| cell.and_then(|cell| be32(cell, 0).ok_or_else(malformed)));
                let mut children = left.collect::<Result<Vec<u32>, Fault>>()?;
                children.push(right);
                next.extend(children.into_iter().rev().map(|child| (child, depth + 1)));
                continue;
            }
            if kind != LEAF {
                return Err(malformed());
            }
            let mut room = page.len();
            for cell in cells {
                let cell = cell?;
                let (len, row, local) = self.split(cell).ok_or_else(malformed)?;
                room = room.checked_sub(local.len()).ok_or_else(malformed)?;
                if last.is_some_and(|last| last >= row) {
                    return Err(Fault::damaged(format!(
                        "the rows of page {number} are in disorder"
                    )));
                }
                last = Some(row);
                if local.len() == len {
                    visit(found, local)?;
                } else {
                    let payload = self.overflow(cell, local, len, found)?;
                    visit(found, &payload)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the length of the payload of a cell, the number of its row, and the bytes that are in the cell.
    fn split<'c>(&self, cell: &'c [u8]) -> Option<(usize, i64, &'c [u8])> {
        let (len, rest) = varint(cell)?;
        let (row, rest) = varint(rest)?;
        let len = usize::try_from(len).ok()?;
        let most = self.usable - 35;
        let local = if len <= most {
            len
        } else {
            let least = (self.usable - 12) * 32 / 255 - 23;
            let wanted = least + (len - least) % (self.usable - 4);
            if wanted <= most { wanted } else { least }
        };
        Some((len, row.cast_signed(), rest.get(..local)?))
    }

    /// Returns a payload whose rest is in a chain of pages.
    fn overflow(
        &mut self,
        cell: &[u8],
        local: &[u8],
        len: usize,
        found: &Found<'_>,
    ) -> Result<Vec<u8>, Fault> {
        let (mut payload, mut left) = (local.to_vec(), len - local.len());
        let behind = varint(cell).and_then(|(_, rest)| varint(rest)).map(|(_, rest)| rest);
        let mut next = behind.and_then(|rest| be32(rest, local.len()));
        while left > 0 {
            let number = next.ok_or_else(|| Fault::damaged("a row is truncated"))?;
            let page = self.page(number, found)?;
            next = be32(page, 0);
            let content = page.get(4..).unwrap_or_default();
            let content = content.get(..left).unwrap_or(content);
            payload.extend_from_slice(content);
            left -= content.len();
        }
        Ok(payload)
    }
}

/// Returns the value of a column, and whether it is a blob.
fn value(payload: &[u8], column: usize) -> Option<(bool, &[u8])> {
    let (head, rest) = varint(payload)?;
    let head = usize::try_from(head).ok()?;
    let mut types = payload.get(payload.len() - rest.len()..head)?;
    let mut at = head;
    for number in 0..=column {
        let (kind, rest) = varint(types)?;
        types = rest;
        let len = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => (kind - 12) / 2,
        };
        let end = at.checked_add(usize::try_from(len).ok()?)?;
        if number == column {
            return Some((kind >= 12 && kind % 2 == 0, payload.get(at..end)?));
        }
        at = end;
    }
    None
}

/// Returns a number of at most nine bytes, seven bits in each but the last, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        if at == 8 {
            return Some((value << 8 | u64::from(*byte), bytes.get(9..)?));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

/// Returns the number in at most four bytes.
fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn be16(bytes: &[u8], at: usize) -> Option<usize> {
    array(bytes, at).map(|raw| u16::from_be_bytes(raw).into())
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}
