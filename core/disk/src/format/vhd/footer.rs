//! Parses the 512-byte footer and the 1024-byte dynamic header of a VHD.
//! Source: VHD specification, "Hard Disk Footer Format" and "Dynamic Disk Header Format".

use crate::error::{Error, Kind};
use crate::field::{be32, be64};
use crate::format::image::Image;

pub(super) const COOKIE: &[u8; 8] = b"conectix";
pub(super) const LEN: u64 = 512;
const DYNAMIC_COOKIE: &[u8; 8] = b"cxsparse";
const DYNAMIC_LEN: u64 = 1024;
/// The limit of the format, 2040 GiB, plus an eighth for writers that round up.
const MAX_VIRTUAL_SIZE: u64 = 2295 << 30;
/// Maximum number of table entries. The reader keeps the block table in memory: at most 64 MiB.
const MAX_TABLE_ENTRIES: u64 = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    Fixed,
    Dynamic,
    Differencing,
}

#[derive(Clone, Debug)]
pub(super) struct Footer {
    pub(super) variant: Variant,
    pub(super) virtual_size: u64,
    /// Offset of the dynamic header; unused for fixed disks.
    pub(super) data_offset: u64,
}

/// Computes the one's complement of the sum of all bytes, with the checksum field counted as zero.
fn checksum(bytes: &[u8], field: usize) -> u32 {
    let sum = bytes.iter().enumerate().filter(|(at, _)| !(field..field + 4).contains(at));
    !sum.fold(0_u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)))
}

impl Footer {
    pub(super) fn read(image: &Image) -> Result<Self, Error> {
        let at = image.len - LEN;
        let raw = image.head::<512>(at)?;
        if raw[..8] != *COOKIE {
            return Err(Error::new(Kind::Truncated, "the VHD footer is missing at the end of")
                .at(&image.path)
                .with_hint("the file is incomplete: fetch or create it again"));
        }
        let malformed = |what: String| Err(image.malformed(&what).at_offset(at));
        if be32(&raw, 64) != checksum(&raw, 64) {
            return malformed("the VHD footer's checksum is wrong".into());
        }
        let version = be32(&raw, 12);
        if version >> 16 != 1 {
            return malformed(format!("unknown VHD version {version:#x}"));
        }
        let variant = match be32(&raw, 60) {
            2 => Variant::Fixed,
            3 => Variant::Dynamic,
            4 => Variant::Differencing,
            other => return malformed(format!("unknown VHD disk type {other}")),
        };
        let virtual_size = be64(&raw, 48);
        if virtual_size > MAX_VIRTUAL_SIZE || !virtual_size.is_multiple_of(512) {
            return malformed(format!("impossible VHD disk size {virtual_size}"));
        }
        Ok(Self { variant, virtual_size, data_offset: be64(&raw, 16) })
    }
}

#[derive(Clone, Debug)]
pub(super) struct DynamicHeader {
    pub(super) table_offset: u64,
    pub(super) entries: u64,
    pub(super) block_size: u64,
    /// Name of the parent; only for a differencing disk.
    pub(super) parent: String,
}

impl DynamicHeader {
    pub(super) fn read(image: &Image, footer: &Footer) -> Result<Self, Error> {
        let at = footer.data_offset;
        if !image.holds(at, DYNAMIC_LEN) {
            return Err(image.truncated("the VHD footer", at));
        }
        let raw = image.head::<1024>(at)?;
        let malformed = |what: String| Err(image.malformed(&what).at_offset(at));
        if raw[..8] != *DYNAMIC_COOKIE {
            return malformed("there is no VHD dynamic header".into());
        }
        if be32(&raw, 36) != checksum(&raw, 36) {
            return malformed("the VHD dynamic header's checksum is wrong".into());
        }
        let version = be32(&raw, 24);
        if version >> 16 != 1 {
            return malformed(format!("unknown VHD dynamic header version {version:#x}"));
        }
        let block_size = u64::from(be32(&raw, 32));
        if !block_size.is_power_of_two() || !(4096..=256 << 20).contains(&block_size) {
            return malformed(format!("impossible VHD block size {block_size}"));
        }
        let header = Self {
            table_offset: be64(&raw, 16),
            entries: u64::from(be32(&raw, 28)),
            block_size,
            parent: parent_name(&raw[64..576]),
        };
        if header.entries < footer.virtual_size.div_ceil(block_size)
            || header.entries > MAX_TABLE_ENTRIES
        {
            let entries = header.entries;
            return malformed(format!(
                "a VHD block table of {entries} entries does not fit the disk"
            ));
        }
        let table_len = header.entries * 4;
        if !image.holds(header.table_offset, table_len + LEN) {
            return Err(image
                .truncated("the VHD block table", header.table_offset.saturating_add(table_len)));
        }
        Ok(header)
    }

    /// Returns the length of the sector bitmap in front of each block in bytes, in whole sectors.
    pub(super) fn bitmap_len(&self) -> u64 {
        (self.block_size / 512).div_ceil(8).next_multiple_of(512)
    }
}

fn parent_name(utf16: &[u8]) -> String {
    let units = utf16.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&units)
}
