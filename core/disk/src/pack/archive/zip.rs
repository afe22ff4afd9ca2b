//! Writes zip archives. Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 to 4.5.
//! The local header of a member is written again when its sizes are known, so that every reader finds them
//! there, including readers that do not support data descriptors.

use crate::error::Error;
use crate::pack::deflate::Deflated;
use crate::pack::output::Output;
use crate::view::Stamp;

/// The first value that does not fit into a 32-bit field.
pub(super) const LIMIT: u64 = u32::MAX as u64;
/// "See the ZIP64 field."
const ELSEWHERE: u32 = u32::MAX;
/// The first count that does not fit into a 16-bit field.
const MOST_MEMBERS: usize = u16::MAX as usize;
/// A regular file with mode 644 in the upper half; the lower half is for DOS.
const ATTRIBUTES: u32 = 0o100_644 << 16;

/// How a member is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Stored = 0,
    Deflated = 8,
}

/// An incomplete member.
#[derive(Debug)]
pub(super) struct Entry {
    name: String,
    method: Method,
    /// Whether the local header has space for 64-bit sizes.
    large: bool,
    /// The offset of the local header.
    at: u64,
    sum: Deflated,
}

/// An incomplete zip archive.
#[derive(Debug)]
pub(super) struct Archive {
    entries: Vec<Entry>,
    /// Time and date in DOS format.
    time: u32,
}

impl Archive {
    pub(super) fn new(stamp: &Stamp) -> Self {
        Self { entries: Vec::new(), time: dos_time(stamp.unix_seconds()) }
    }

    /// Writes a member: its header, the bytes that `write` appends, and its header again with the values that
    /// `write` returns. Neither size exceeds `limit`.
    pub(super) fn member(
        &mut self,
        out: &mut Output,
        name: &str,
        method: Method,
        limit: u64,
        write: impl FnOnce(&mut Output) -> Result<Deflated, Error>,
    ) -> Result<Deflated, Error> {
        let mut entry = Entry {
            name: name.to_owned(),
            method,
            large: limit >= LIMIT,
            at: out.end(),
            sum: Deflated::default(),
        };
        out.append(&self.local(&entry))?;
        entry.sum = write(out)?;
        out.write_at(&self.local(&entry), entry.at)?;
        let sum = entry.sum;
        self.entries.push(entry);
        Ok(sum)
    }

    /// Writes the central directory.
    pub(super) fn finish(&self, out: &mut Output) -> Result<(), Error> {
        let start = out.end();
        for entry in &self.entries {
            out.append(&self.central(entry))?;
        }
        let len = out.end() - start;
        let count = self.entries.len();
        if start >= LIMIT || len >= LIMIT || count >= MOST_MEMBERS {
            let wide = wide_end(count as u64, len, start, out.end());
            out.append(&wide)?;
        }
        let few = u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes();
        let mut end = Vec::with_capacity(22);
        end.extend(b"PK\x05\x06\0\0\0\0");
        end.extend(few);
        end.extend(few);
        end.extend(narrow(len).to_le_bytes());
        end.extend(narrow(start).to_le_bytes());
        end.extend([0; 2]);
        out.append(&end)
    }

    /// Builds the common part of local and central header: from the required version to the length of the
    /// name.
    fn shared(&self, entry: &Entry, large: bool) -> Vec<u8> {
        let both = |value| if large { ELSEWHERE } else { narrow(value) };
        let mut out = Vec::with_capacity(26);
        out.extend(if large { 45_u16 } else { 20 }.to_le_bytes());
        // Bit 11 marks the name as UTF-8.
        out.extend(if entry.name.is_ascii() { 0_u16 } else { 1 << 11 }.to_le_bytes());
        out.extend((entry.method as u16).to_le_bytes());
        out.extend(self.time.to_le_bytes());
        out.extend(entry.sum.crc.to_le_bytes());
        out.extend(both(entry.sum.packed).to_le_bytes());
        out.extend(both(entry.sum.plain).to_le_bytes());
        out.extend(u16::try_from(entry.name.len()).unwrap_or(u16::MAX).to_le_bytes());
        out
    }

    fn local(&self, entry: &Entry) -> Vec<u8> {
        let mut out = b"PK\x03\x04".to_vec();
        out.extend(self.shared(entry, entry.large));
        out.extend(if entry.large { 20_u16 } else { 0 }.to_le_bytes());
        out.extend(entry.name.as_bytes());
        if entry.large {
            out.extend([1, 0, 16, 0]);
            out.extend(entry.sum.plain.to_le_bytes());
            out.extend(entry.sum.packed.to_le_bytes());
        }
        out
    }

    fn central(&self, entry: &Entry) -> Vec<u8> {
        let far = entry.at >= LIMIT;
        let mut wide = Vec::new();
        if entry.large {
            wide.extend(entry.sum.plain.to_le_bytes());
            wide.extend(entry.sum.packed.to_le_bytes());
        }
        if far {
            wide.extend(entry.at.to_le_bytes());
        }
        let mut out = b"PK\x01\x02".to_vec();
        out.extend([45, 3]); // made by version 4.5 on Unix
        out.extend(self.shared(entry, entry.large));
        let extra = if wide.is_empty() { 0 } else { wide.len() + 4 };
        out.extend(u16::try_from(extra).unwrap_or(0).to_le_bytes());
        out.extend([0; 2 + 2 + 2]); // no comment, disk 0, no attributes of the content
        out.extend(ATTRIBUTES.to_le_bytes());
        out.extend(if far { ELSEWHERE } else { narrow(entry.at) }.to_le_bytes());
        out.extend(entry.name.as_bytes());
        if !wide.is_empty() {
            out.extend([1, 0]);
            out.extend(u16::try_from(wide.len()).unwrap_or(0).to_le_bytes());
            out.extend(wide);
        }
        out
    }
}

/// Builds the ZIP64 end of the central directory and its locator.
fn wide_end(count: u64, len: u64, start: u64, at: u64) -> Vec<u8> {
    let mut out = b"PK\x06\x06".to_vec();
    out.extend(44_u64.to_le_bytes()); // bytes which follow
    out.extend([45, 3, 45, 0]);
    out.extend([0; 8]); // this is disk 0, and so is the start
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(len.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend(b"PK\x06\x07\0\0\0\0");
    out.extend(at.to_le_bytes());
    out.extend(1_u32.to_le_bytes()); // one disk
    out
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(ELSEWHERE)
}

/// Returns the date in the upper and the time in the lower half. Times before 1980 or after 2107 become the
/// nearest valid one.
fn dos_time(unix_seconds: u64) -> u32 {
    const FIRST: u64 = 315_532_800; // 1980-01-01
    const LAST: u64 = 4_354_819_199; // 2107-12-31 23:59:59
    let seconds = unix_seconds.clamp(FIRST, LAST);
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(day);
    let date = (year - 1980) << 9 | month << 5 | day;
    let time = (second / 3600) << 11 | (second / 60 % 60) << 5 | (second % 60 / 2);
    narrow(date << 16 | time)
}

/// Converts a day counted from 1970-01-01 to year, month, and day in the Gregorian calendar.
fn civil(day: u64) -> (u64, u64, u64) {
    // Years counted from March, so that the leap day is the last one; eras of 400 years.
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let stamp = |y: u32, mo: u32, d: u32, h: u32, mi: u32, s: u32| {
            (((y - 1980) << 9 | mo << 5 | d) << 16) | (h << 11 | mi << 5 | (s / 2))
        };
        for (unix, want) in [
            (0, stamp(1980, 1, 1, 0, 0, 0)),
            (315_532_800, stamp(1980, 1, 1, 0, 0, 0)),
            (951_782_400, stamp(2000, 2, 29, 0, 0, 0)),
            (951_868_800, stamp(2000, 3, 1, 0, 0, 0)),
            (1_700_000_000, stamp(2023, 11, 14, 22, 13, 20)),
            (1_709_251_199, stamp(2024, 2, 29, 23, 59, 58)),
            (4_107_542_400, stamp(2100, 3, 1, 0, 0, 0)),
            (u64::MAX, stamp(2107, 12, 31, 23, 59, 58)),
        ] {
            assert_eq!(dos_time(unix), want, "{unix}");
        }
    }
}
