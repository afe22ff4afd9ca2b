//! Decodes the names of FAT directories. Source: Microsoft, "FAT: General Overview of On-Disk Format" 1.03, section
//! "FAT Long Directory Entries".

use crate::bytes::le16;

/// Length of a directory entry in bytes.
pub(super) const ENTRY: usize = 32;
const DIRECTORY: u8 = 0x10;
const VOLUME: u8 = 0x08;
const LONG: u8 = 0x0f;
/// A long name has at most 20 entries of 13 characters.
const MAX_PARTS: usize = 20;

/// An entry of a directory.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) name: String,
    /// The name with eight and three characters.
    pub(super) short: String,
    pub(super) is_directory: bool,
    pub(super) cluster: u64,
    pub(super) len: u64,
}

impl Found {
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name) || self.short.eq_ignore_ascii_case(name)
    }
}

/// Returns the entries of a directory, without `.`, `..`, and deleted ones.
pub(super) fn entries(directory: &[u8]) -> Vec<Found> {
    let (mut found, mut parts) = (Vec::new(), Vec::new());
    for entry in directory.chunks_exact(ENTRY) {
        let (first, attributes) = (entry[0], entry[11]);
        match (first, attributes) {
            (0, _) => break,
            (0xe5, _) => parts.clear(),
            (_, LONG) => long_part(entry, &mut parts),
            (b'.', _) => parts.clear(),
            _ if attributes & VOLUME != 0 => parts.clear(),
            _ => {
                let short = short_name(entry);
                let name = long_name(&mut parts, entry).unwrap_or_else(|| short.clone());
                let half = |at| u64::from(le16(entry, at).unwrap_or_default());
                found.push(Found {
                    name,
                    short,
                    is_directory: attributes & DIRECTORY != 0,
                    cluster: half(20) << 16 | half(26),
                    len: half(30) << 16 | half(28),
                });
            }
        }
    }
    found
}

/// Collects a part of a long name with the checksum of its short name; the last part comes first.
fn long_part(entry: &[u8], parts: &mut Vec<(u8, [u16; 13])>) {
    if entry[0] & 0x40 != 0 {
        parts.clear();
    }
    if parts.len() >= MAX_PARTS {
        return;
    }
    let mut letters = [0; 13];
    let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
    for (letter, at) in letters.iter_mut().zip(places) {
        *letter = le16(entry, at).unwrap_or_default();
    }
    parts.push((entry[13], letters));
}

/// Returns the long name, if its parts belong to this short name.
fn long_name(parts: &mut Vec<(u8, [u16; 13])>, entry: &[u8]) -> Option<String> {
    let parts = std::mem::take(parts);
    let sum = entry[..11].iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    if parts.is_empty() || parts.iter().any(|(found, _)| *found != sum) {
        return None;
    }
    let letters = parts.iter().rev().flat_map(|(_, letters)| *letters);
    let letters: Vec<u16> = letters.take_while(|letter| *letter != 0).collect();
    Some(String::from_utf16_lossy(&letters))
}

fn short_name(entry: &[u8]) -> String {
    let part = |bytes: &[u8], lower: bool| {
        let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
        if lower { text.to_lowercase() } else { text }
    };
    // Windows NT stores in byte 12 which part is written in lower case.
    let name = part(&entry[..8], entry[12] & 0x08 != 0);
    let extension = part(&entry[8..11], entry[12] & 0x10 != 0);
    if extension.is_empty() { name } else { format!("{name}.{extension}") }
}
