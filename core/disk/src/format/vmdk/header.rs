//! Parses the 512-byte header of a sparse extent, and the footer that replaces it in a stream.
//! Source: VMware, "Virtual Disk Format 5.0", "Hosted Sparse Extents" and "Stream-Optimized Compressed Sparse
//! Extents".

use crate::error::{Error, Kind};
use crate::field::{le16, le32, le64};
use crate::format::image::Image;

pub(super) const MAGIC: &[u8; 4] = b"KDMV";
pub(super) const SECTOR: u64 = 512;

/// "The grain directory is at the end": the footer contains its offset.
const AT_END: u64 = u64::MAX;
const FOOTER_MARKER: u32 = 3;
/// Bytes that a transfer in text mode would have changed.
const NEWLINES: [u8; 4] = *b"\n \r\n";

const ZERO_GRAINS: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
const MARKERS: u32 = 1 << 17;

/// Valid grain sizes in sectors. Grains are decompressed in memory, and several of them are cached.
const GRAIN_SECTORS: std::ops::RangeInclusive<u64> = 1..=32768;
/// Maximum number of directory entries. The grain directory is kept in memory: at most 32 MiB, for 256 TiB of
/// disk with the usual grain size.
const MAX_DIRECTORY_ENTRIES: u64 = 8 << 20;
/// Maximum length of an embedded descriptor in sectors; usually it has a few hundred bytes.
const MAX_DESCRIPTOR_SECTORS: u64 = 2048;

/// The header fields that are required for reading. Offsets and lengths are bytes.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) capacity: u64,
    pub(super) grain: u64,
    pub(super) table_entries: u64,
    pub(super) directory: u64,
    pub(super) descriptor: Option<(u64, u64)>,
    pub(super) zero_grains: bool,
    pub(super) compressed: bool,
    pub(super) dirty: bool,
}

impl Header {
    pub(super) fn read(image: &Image) -> Result<Self, Error> {
        let raw = Self::raw(image, 0)?;
        if le64(&raw, 56) != AT_END {
            return Self::decode(image, &raw, 0);
        }
        let place = footer(image)?;
        let footer = Self::raw(image, place)?;
        if le64(&footer, 56) == AT_END {
            let message = "the VMDK footer does not say where the grain directory is";
            return Err(image.malformed(message).at_offset(place));
        }
        // The header refers to the descriptor: a writer of a stream cannot go back to write another one.
        let header = Self::decode(image, &footer, place)?;
        Ok(Self { descriptor: descriptor(image, &raw)?, ..header })
    }

    fn raw(image: &Image, at: u64) -> Result<[u8; 512], Error> {
        if !image.holds(at, SECTOR) {
            return Err(image.truncated("the VMDK header", at.saturating_add(SECTOR)));
        }
        let raw = image.head::<512>(at)?;
        if raw[..4] != *MAGIC {
            return Err(image.malformed("there is no VMDK header").at_offset(at));
        }
        if raw[73..77] != NEWLINES {
            return Err(image
                .malformed("the VMDK header was changed by a transfer in text mode")
                .at_offset(at)
                .with_hint("transfer the file again, in binary mode"));
        }
        Ok(raw)
    }

    fn decode(image: &Image, raw: &[u8; 512], at: u64) -> Result<Self, Error> {
        let malformed = |message: String| Err(image.malformed(&message).at_offset(at));
        let version = le32(raw, 4);
        if !(1..=3).contains(&version) {
            return Err(image.unsupported(&format!("VMDK version {version}")));
        }
        let (capacity, grain) = (le64(raw, 12), le64(raw, 20));
        if !grain.is_power_of_two() || !GRAIN_SECTORS.contains(&grain) {
            return malformed(format!("impossible VMDK grain size of {grain} sectors"));
        }
        let table_entries = u64::from(le32(raw, 44));
        if !(1..=512).contains(&table_entries) {
            return malformed(format!("impossible VMDK grain table of {table_entries} entries"));
        }
        let entries = capacity.div_ceil(grain * table_entries);
        if entries > MAX_DIRECTORY_ENTRIES {
            return malformed(format!("impossible VMDK capacity of {capacity} sectors"));
        }
        let Some(directory) = le64(raw, 56).checked_mul(SECTOR) else {
            return malformed("the VMDK grain directory is nowhere".to_owned());
        };
        let flags = le32(raw, 8);
        let header = Self {
            capacity: capacity * SECTOR,
            grain: grain * SECTOR,
            table_entries,
            directory,
            descriptor: descriptor(image, raw)?,
            zero_grains: flags & ZERO_GRAINS != 0,
            compressed: flags & COMPRESSED != 0,
            dirty: raw[72] != 0,
        };
        header.check_compression(image, flags, le16(raw, 77))?;
        if !image.holds(directory, entries * 4) {
            let end = directory.saturating_add(entries * 4);
            return Err(image.truncated("the VMDK header", end));
        }
        Ok(header)
    }

    fn check_compression(&self, image: &Image, flags: u32, algorithm: u16) -> Result<(), Error> {
        if !self.compressed {
            return Ok(());
        }
        if algorithm != 1 {
            return Err(image.unsupported(&format!("VMDK compression {algorithm}")));
        }
        if flags & MARKERS == 0 {
            return Err(image.unsupported("compressed VMDK grains have no markers"));
        }
        Ok(())
    }

    /// Returns the number of guest bytes that a grain table covers.
    pub(super) fn table_span(&self) -> u64 {
        self.grain * self.table_entries
    }

    /// Returns the number of entries of the grain directory.
    pub(super) fn directory_entries(&self) -> u64 {
        self.capacity.div_ceil(self.table_span())
    }
}

/// Returns the offset of the footer: the third sector from the end, between its marker and the last marker.
fn footer(image: &Image) -> Result<u64, Error> {
    let missing_footer = || {
        Error::new(Kind::Truncated, "the VMDK footer is missing at the end of")
            .at(&image.path)
            .with_hint("the file is incomplete: fetch or create it again")
    };
    let marker =
        image.len.checked_sub(3 * SECTOR).filter(|at| *at >= SECTOR).ok_or_else(missing_footer)?;
    let raw = image.head::<1536>(marker)?;
    let is_marker = |at: usize, sectors: u64, kind: u32| {
        le64(&raw, at) == sectors && le32(&raw, at + 8) == 0 && le32(&raw, at + 12) == kind
    };
    if is_marker(0, 1, FOOTER_MARKER) && is_marker(1024, 0, 0) {
        Ok(marker + SECTOR)
    } else {
        Err(missing_footer())
    }
}

/// Returns the range of the embedded descriptor.
fn descriptor(image: &Image, raw: &[u8; 512]) -> Result<Option<(u64, u64)>, Error> {
    let (at, sectors) = (le64(raw, 28), le64(raw, 36));
    if at == 0 {
        return Ok(None);
    }
    if sectors > MAX_DESCRIPTOR_SECTORS {
        return Err(image.malformed(&format!("a VMDK descriptor of {sectors} sectors")));
    }
    let (at, len) = (at.saturating_mul(SECTOR), sectors * SECTOR);
    if image.holds(at, len) {
        Ok(Some((at, len)))
    } else {
        Err(image.truncated("the VMDK header", at.saturating_add(len)))
    }
}
