//! Parses the headers, the log, and the region tables of a VHDX. Source: [MS-VHDX] 2.2 "Header Section" and
//! 2.3 "Log".

use crc_fast::{CrcAlgorithm, checksum};

use super::guid;
use crate::error::Error;
use crate::field::{index, le16, le32, le64};
use crate::format::image::Image;

/// The alignment of regions and blocks in bytes.
pub(super) const MIB: u64 = 1 << 20;
const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
const HEADER_LEN: usize = 4096;
const REGION_TABLES: [u64; 2] = [192 << 10, 256 << 10];
const REGION_TABLE_LEN: usize = 64 << 10;
const MAX_REGIONS: u32 = 2047;
/// The alignment of log entries in bytes.
const LOG_STEP: u64 = 4096;
/// Maximum length of the log in bytes. Writers use 1 MiB; the specification sets no limit.
const MAX_LOG: u64 = 256 << 20;

const BAT: [u8; 16] = guid(0x2dc2_7766_f623_4200_9d64_115e_9bfd_4a08);
const METADATA: [u8; 16] = guid(0x8b7c_a206_4790_4b9a_b8fe_575f_050f_886e);

/// A range of the file, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Region {
    pub(super) at: u64,
    pub(super) len: u64,
}

/// The two regions that every VHDX has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Regions {
    pub(super) bat: Region,
    pub(super) metadata: Region,
}

/// Checks the CRC-32C of the whole structure, with the checksum field (4 bytes at offset 4) counted as zero.
fn is_intact(raw: &[u8]) -> bool {
    let mut copy = raw.to_vec();
    copy[4..8].fill(0);
    checksum(CrcAlgorithm::Crc32Iscsi, &copy) == u64::from(le32(raw, 4))
}

/// Reads the current header, checks that the log is empty, and reads the regions.
pub(super) fn read(image: &Image) -> Result<Regions, Error> {
    if !image.holds(0, MIB) {
        return Err(image.truncated("the VHDX header section", MIB));
    }
    let headers = HEADERS.map(|at| -> Result<_, Error> {
        let raw = image.head::<HEADER_LEN>(at)?;
        Ok((raw[..4] == *b"head" && is_intact(&raw)).then_some(raw))
    });
    let [first, second] = headers;
    let both = [first?, second?].into_iter().flatten();
    let Some(current) = both.max_by_key(|raw| le64(raw, 8)) else {
        return Err(image.malformed("neither VHDX header is intact"));
    };
    let version = le16(&current, 66);
    if version != 1 {
        return Err(image.unsupported(&format!("VHDX version {version}")));
    }
    check_log(image, &current)?;
    regions(image)
}

/// Checks that the log is empty. Changes in the log belong to the disk, and only a writer may apply them.
fn check_log(image: &Image, header: &[u8; HEADER_LEN]) -> Result<(), Error> {
    let id = &header[48..64];
    if id.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    let (len, at) = (u64::from(le32(header, 68)), le64(header, 72));
    if !len.is_multiple_of(MIB) || !at.is_multiple_of(MIB) || len > MAX_LOG || at < MIB {
        return Err(image.malformed(&format!("an impossible VHDX log of {len} bytes at byte {at}")));
    }
    if !image.holds(at, len) {
        return Err(image.truncated("the VHDX log", at.saturating_add(len)));
    }
    for place in (at..at + len).step_by(index(LOG_STEP)) {
        let raw = image.head::<64>(place)?;
        let changes = le32(&raw, 24);
        if raw[..4] == *b"loge" && raw[32..48] == *id && changes != 0 {
            return Err(image
                .unsupported("the log holds changes which are not part of the disk yet")
                .at_offset(place)
                .with_hint(
                    "the disk was not closed: bring it up to date with `qemu-img check -r all`, \
                     then `qemu-img convert -O qcow2` writes a plain copy",
                ));
        }
    }
    Ok(())
}

fn regions(image: &Image) -> Result<Regions, Error> {
    for at in REGION_TABLES {
        let mut raw = vec![0; REGION_TABLE_LEN];
        image.read(&mut raw, at)?;
        if raw[..4] == *b"regi" && is_intact(&raw) {
            return decode_regions(image, &raw).map_err(|error| error.at_offset(at));
        }
    }
    Err(image.malformed("neither VHDX region table is intact"))
}

fn decode_regions(image: &Image, raw: &[u8]) -> Result<Regions, Error> {
    let count = le32(raw, 8);
    if count > MAX_REGIONS {
        return Err(image.malformed(&format!("a VHDX region table of {count} entries")));
    }
    let (mut bat, mut metadata) = (None, None);
    let mut all: Vec<Region> = Vec::new();
    for entry in raw[16..].chunks_exact(32).take(index(u64::from(count))) {
        let region = Region { at: le64(entry, 16), len: u64::from(le32(entry, 24)) };
        if region.at < MIB || !region.at.is_multiple_of(MIB) || !region.len.is_multiple_of(MIB) {
            return Err(image.malformed("a VHDX region is not aligned"));
        }
        if !image.holds(region.at, region.len) {
            return Err(image.truncated("a VHDX region", region.at.saturating_add(region.len)));
        }
        all.push(region);
        let slot = if entry[..16] == BAT {
            &mut bat
        } else if entry[..16] == METADATA {
            &mut metadata
        } else if le32(entry, 28) & 1 != 0 {
            return Err(image.unsupported("an unknown VHDX region is required"));
        } else {
            continue;
        };
        if slot.replace(region).is_some() {
            return Err(image.malformed("a VHDX region is named twice"));
        }
    }
    all.sort_unstable_by_key(|region| region.at);
    if all.windows(2).any(|pair| pair[0].at + pair[0].len > pair[1].at) {
        return Err(image.malformed("two VHDX regions share bytes"));
    }
    match (bat, metadata) {
        (Some(bat), Some(metadata)) => Ok(Regions { bat, metadata }),
        _ => Err(image.malformed("the VHDX block table or metadata is missing")),
    }
}
