//! Parses the metadata of a VHDX: block size, disk size, sector size. Source: [MS-VHDX] 2.6 "Metadata
//! Region".

use super::guid;
use super::header::{MIB, Region};
use crate::error::Error;
use crate::field::{index, le16, le32, le64};
use crate::format::image::Image;

const TABLE_LEN: u64 = 64 << 10;
const MAX_ITEMS: u16 = 2047;
const REQUIRED: u32 = 1 << 2;
const HAS_PARENT: u32 = 1 << 1;
const LEAVE_ALLOCATED: u32 = 1;
/// The limit of the format in bytes.
const MAX_VIRTUAL_SIZE: u64 = 64 << 40;

const FILE_PARAMETERS: [u8; 16] = guid(0xcaa1_6737_fa36_4d43_b3b6_33f0_aa44_e76b);
const VIRTUAL_SIZE: [u8; 16] = guid(0x2fa5_4224_cd1b_4876_b211_5dbe_d83b_f4b8);
const LOGICAL_SECTOR: [u8; 16] = guid(0x8141_bf1d_a96f_4709_ba47_f233_a8fa_ab5f);
const PHYSICAL_SECTOR: [u8; 16] = guid(0xcda3_48c7_445d_4471_9cc9_e988_5251_c556);
const DISK_ID: [u8; 16] = guid(0xbeca_12ab_b2e6_4523_93ef_c309_e000_c746);
const PARENT_LOCATOR: [u8; 16] = guid(0xa8d3_5f2d_b30b_454d_abf7_d3d8_4834_ab0c);

/// The metadata that is required for reading, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metadata {
    pub(super) block: u64,
    pub(super) virtual_size: u64,
    pub(super) sector: u64,
    pub(super) has_parent: bool,
    pub(super) fixed: bool,
}

impl Metadata {
    pub(super) fn read(image: &Image, region: Region) -> Result<Self, Error> {
        let malformed = |message: String| image.malformed(&message).at_offset(region.at);
        if region.len < TABLE_LEN {
            return Err(malformed(format!("VHDX metadata of {} bytes", region.len)));
        }
        let mut table = vec![0; index(TABLE_LEN)];
        image.read(&mut table, region.at)?;
        let count = le16(&table, 10);
        if table[..8] != *b"metadata" || count > MAX_ITEMS {
            return Err(malformed("there is no VHDX metadata table".to_owned()));
        }
        let (mut parameters, mut size, mut sector) = (None, None, None);
        for entry in table[32..].chunks_exact(32).take(usize::from(count)) {
            let (place, len) = (u64::from(le32(entry, 16)), u64::from(le32(entry, 20)));
            let slot = match <[u8; 16]>::try_from(&entry[..16]).unwrap_or_default() {
                FILE_PARAMETERS => &mut parameters,
                VIRTUAL_SIZE => &mut size,
                LOGICAL_SECTOR => &mut sector,
                PHYSICAL_SECTOR | DISK_ID | PARENT_LOCATOR => continue,
                _ if le32(entry, 24) & REQUIRED != 0 => {
                    return Err(image.unsupported("an unknown VHDX metadata item is required"));
                }
                _ => continue,
            };
            // Every known item has 4 or 8 bytes and is located after the table.
            if place < TABLE_LEN || !(4..=8).contains(&len) || place + len > region.len {
                return Err(malformed("a VHDX metadata item is out of place".to_owned()));
            }
            let mut value = [0; 8];
            image.read(&mut value[..index(len)], region.at + place)?;
            *slot = Some(value);
        }
        let missing = |what: &str| malformed(format!("the VHDX {what} is missing"));
        let parameters = parameters.ok_or_else(|| missing("block size"))?;
        let flags = le32(&parameters, 4);
        let found = Self {
            block: u64::from(le32(&parameters, 0)),
            virtual_size: le64(&size.ok_or_else(|| missing("disk size"))?, 0),
            sector: le64(&sector.ok_or_else(|| missing("sector size"))?, 0),
            has_parent: flags & HAS_PARENT != 0,
            fixed: flags & LEAVE_ALLOCATED != 0,
        };
        found.check().map_err(malformed)?;
        Ok(found)
    }

    fn check(self) -> Result<(), String> {
        if !self.block.is_power_of_two() || !(MIB..=256 * MIB).contains(&self.block) {
            return Err(format!("impossible VHDX block size {}", self.block));
        }
        if self.sector != 512 && self.sector != 4096 {
            return Err(format!("impossible VHDX sector size {}", self.sector));
        }
        if self.virtual_size > MAX_VIRTUAL_SIZE || !self.virtual_size.is_multiple_of(self.sector) {
            return Err(format!("impossible VHDX disk size {}", self.virtual_size));
        }
        Ok(())
    }

    /// Returns the number of blocks of the disk.
    pub(super) fn blocks(self) -> u64 {
        self.virtual_size.div_ceil(self.block)
    }

    /// Returns the number of blocks between two sector bitmap entries of the block table.
    pub(super) fn chunk(self) -> u64 {
        (self.sector << 23) / self.block
    }
}
