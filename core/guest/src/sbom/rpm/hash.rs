//! Reads `Packages`, a hash of Berkeley DB. Source: Berkeley DB 5.3, src/dbinc/db_page.h. Numbers have the byte order
//! of the machine that wrote them. A page of the hash holds pairs of a key and a value; headers are long, so the value
//! is usually the place of a chain of pages.

use super::Found;
use crate::bytes::{array, index};
use crate::source::Fault;

const MAGIC: u32 = 0x0006_1561;
/// Versions of the hash: Berkeley DB 4.1 to 18.
const VERSIONS: std::ops::RangeInclusive<u32> = 7..=10;
const PAGE_HEADER: usize = 26;
const HASH_UNSORTED: u8 = 2;
const OVERFLOW: u8 = 7;
const HASH_META: u8 = 8;
const HASH: u8 = 13;
/// Kinds of items: on the page, and in a chain of pages.
const ON_PAGE: u8 = 1;
const OFF_PAGE: u8 = 3;

/// Adds all packages.
pub(super) fn read(file: &[u8], found: &mut Found<'_>) -> Result<(), Fault> {
    if file.is_empty() {
        return Ok(());
    }
    let mut hash = Hash::open(file)?;
    for number in 1..hash.used.len() {
        found.step()?;
        let page = hash.page(number)?;
        if page.get(25).is_some_and(|kind| [HASH, HASH_UNSORTED].contains(kind)) {
            hash.pairs(number, page, found)?;
        }
    }
    Ok(())
}

struct Hash<'a> {
    file: &'a [u8],
    big_endian: bool,
    page: usize,
    /// Whether a page of a chain was used, by its number.
    used: Vec<bool>,
}

impl<'a> Hash<'a> {
    fn open(file: &'a [u8]) -> Result<Self, Fault> {
        let big_endian = array(file, 12).map(u32::from_be_bytes) == Some(MAGIC);
        let mut hash = Self { file, big_endian, page: 0, used: Vec::new() };
        if hash.u32(file, 12) != Some(MAGIC) || file.get(25) != Some(&HASH_META) {
            return Err(Fault::damaged("it is not a hash of Berkeley DB"));
        }
        let version = hash.u32(file, 16).unwrap_or_default();
        if !VERSIONS.contains(&version) {
            return Err(Fault::damaged(format!("its format has version {version}")));
        }
        // An algorithm of encryption, and a flag for checksums: both make the header of a page longer.
        if file.get(24) != Some(&0) || file.get(26) != Some(&0) {
            return Err(Fault::damaged("it is encrypted, or has checksums or partitions"));
        }
        let malformed = || Fault::damaged("its header is malformed");
        let page = hash.u32(file, 20).filter(|page| page.is_power_of_two());
        let page = page.filter(|page| (512..=1 << 16).contains(page)).ok_or_else(malformed)?;
        let last = hash.u32(file, 32).ok_or_else(malformed)?;
        hash.page = index(page.into());
        if index(last.into()) >= file.len() / hash.page {
            return Err(Fault::damaged("it is truncated"));
        }
        hash.used = vec![false; index(last.into()) + 1];
        Ok(hash)
    }

    fn page(&self, number: usize) -> Result<&'a [u8], Fault> {
        let start = number.checked_mul(self.page).filter(|_| number < self.used.len());
        let page = start.and_then(|start| self.file.get(start..start + self.page));
        page.ok_or_else(|| Fault::damaged(format!("it refers to page {number}")))
    }

    /// Adds the packages of a page of the hash.
    fn pairs(&mut self, number: usize, page: &'a [u8], found: &mut Found<'_>) -> Result<(), Fault> {
        let malformed = || Fault::damaged(format!("page {number} is malformed"));
        let count = self.u16(page, 20).ok_or_else(malformed)?;
        // Items follow one another from the end of the page, so they cannot overlap.
        let (mut end, mut key) = (page.len(), None);
        for item in 0..count {
            let start = self.u16(page, PAGE_HEADER + 2 * item).ok_or_else(malformed)?;
            let whole = page.get(start..end).filter(|whole| !whole.is_empty());
            let whole = whole.ok_or_else(malformed)?;
            end = start;
            let Some(name) = key.take() else {
                key = Some(whole);
                continue;
            };
            // The key 0 has the next number, not a package.
            let is_counter = name
                .split_first()
                .is_some_and(|(kind, key)| *kind == ON_PAGE && key.iter().all(|byte| *byte == 0));
            if is_counter {
                continue;
            }
            match whole.split_first() {
                Some((&ON_PAGE, header)) => found.add(header)?,
                Some((&OFF_PAGE, _)) => {
                    let place = self.u32(whole, 4).zip(self.u32(whole, 8)).ok_or_else(malformed)?;
                    let header = self.chain(place, found)?;
                    found.add(&header)?;
                }
                _ => return Err(malformed()),
            }
        }
        if key.is_some() { Err(malformed()) } else { Ok(()) }
    }

    /// Returns the content of a chain of pages with this length.
    fn chain(&mut self, (first, len): (u32, u32), found: &Found<'_>) -> Result<Vec<u8>, Fault> {
        let (mut next, len) = (index(first.into()), index(len.into()));
        let mut content = Vec::new();
        while content.len() < len {
            found.step()?;
            let page = self.page(next)?;
            let malformed = || Fault::damaged(format!("page {next} is malformed"));
            let used = self.used.get_mut(next).filter(|used| !**used).ok_or_else(malformed)?;
            *used = true;
            let piece = self.u16(page, 22).and_then(|len| page.get(PAGE_HEADER..PAGE_HEADER + len));
            let piece = piece.filter(|_| page.get(25) == Some(&OVERFLOW));
            content.extend_from_slice(piece.ok_or_else(malformed)?);
            next = self.u32(page, 16).map(|next| index(next.into())).ok_or_else(malformed)?;
        }
        if content.len() == len { Ok(content) } else { Err(Fault::damaged("a value is too long")) }
    }

    fn u16(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let read = if self.big_endian { u16::from_be_bytes } else { u16::from_le_bytes };
        array(bytes, at).map(read).map(usize::from)
    }

    fn u32(&self, bytes: &[u8], at: usize) -> Option<u32> {
        array(bytes, at).map(if self.big_endian { u32::from_be_bytes } else { u32::from_le_bytes })
    }
}
