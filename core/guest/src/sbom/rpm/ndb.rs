//! Reads Packages.db, rpm's own format. Source: rpm, lib/backend/ndb/rpmpkg.c. Numbers are little-endian: a header,
//! pages of slots, and blobs, each with its number before it, and its length and checksum behind it.

use super::Found;
use crate::bytes::{array, index, le32};
use crate::source::Fault;

const MAGIC: &[u8; 4] = b"RpmP";
const SLOT: &[u8; 4] = b"Slot";
const BLOB: &[u8; 4] = b"BlbS";
const END: &[u8; 4] = b"BlbE";
const VERSION: u32 = 0;
const HEADER: usize = 32;
const PAGE: usize = 4096;
const SLOT_LEN: usize = 16;
/// Unit of places and lengths.
const BLOCK: usize = 16;
/// Bytes before and behind the content of a blob.
const BLOB_HEAD: usize = 16;
const BLOB_TAIL: usize = 12;

/// Adds all packages.
pub(super) fn read(file: &[u8], found: &mut Found<'_>) -> Result<(), Fault> {
    if file.is_empty() {
        return Ok(());
    }
    if array(file, 0).as_ref() != Some(MAGIC) || le32(file, 4) != Some(VERSION) {
        return Err(Fault::damaged("it is not a database of rpm, or has another version"));
    }
    let pages = le32(file, 12).map(|pages| index(pages.into()));
    let slots = pages.and_then(|pages| file.get(HEADER..pages.checked_mul(PAGE)?));
    let slots = slots.ok_or_else(|| Fault::damaged("its slots are truncated"))?;
    // Blobs do not overlap, so together they are not longer than the file.
    let mut room = file.len();
    for slot in slots.chunks_exact(SLOT_LEN) {
        found.step()?;
        if array(slot, 0).as_ref() != Some(SLOT) {
            return Err(Fault::damaged("one of its slots is malformed"));
        }
        // The slot is free.
        if le32(slot, 8) == Some(0) {
            continue;
        }
        let malformed = || Fault::damaged("one of its headers is malformed");
        let blob = blob(file, slot).ok_or_else(malformed)?;
        room = room.checked_sub(blob.len()).ok_or_else(malformed)?;
        found.add(blob)?;
    }
    Ok(())
}

/// Returns the content of the blob of a slot.
fn blob<'a>(file: &'a [u8], slot: &[u8]) -> Option<&'a [u8]> {
    let place = |at| le32(slot, at).map(|count| index(count.into()).checked_mul(BLOCK));
    let (start, len) = (place(8)??, place(12)??);
    let raw = file.get(start..start.checked_add(len)?)?;
    let (body, tail) = raw.split_at_checked(len.checked_sub(BLOB_TAIL)?)?;
    let content = body.get(BLOB_HEAD..BLOB_HEAD.checked_add(index(le32(body, 12)?.into()))?)?;
    // The number of the package is that of its slot, and the length is on both sides.
    let is_valid = array(body, 0).as_ref() == Some(BLOB)
        && le32(body, 4) == le32(slot, 4)
        && array(tail, 8).as_ref() == Some(END)
        && le32(tail, 4) == le32(body, 12)
        && le32(tail, 0) == Some(adler32(body));
    is_valid.then_some(content)
}

/// The checksum of RFC 1950, of everything before it.
pub(super) fn adler32(bytes: &[u8]) -> u32 {
    let (mut one, mut two) = (1_u32, 0_u32);
    // The longest run that does not overflow 32 bits.
    for run in bytes.chunks(5552) {
        for byte in run {
            one += u32::from(*byte);
            two += one;
        }
        one %= 65_521;
        two %= 65_521;
    }
    two << 16 | one
}
