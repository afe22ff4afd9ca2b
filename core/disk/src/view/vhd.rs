//! Computes a fixed or dynamic VHD from a disk: footer, header, and tables are computed per read, data is
//! copied from the disk. Source: VHD specification 1.0; layout of a dynamic disk as QEMU's block/vpc.c writes
//! it: footer copy, header, block table, then each block as 512 bytes of bitmap and 2 MiB of data, footer.

use super::allocation::{Allocation, CLUSTER};
use super::raw::{padded, padded_zeros_at, read_padded};
use super::vhd_header::{BLOCK, FOOTER, HEADER, MAX_SIZE, dynamic_header, footer};
use super::{Stamp, View};
use crate::error::{Error, Kind};
use crate::field::index;
use crate::format::{Format, GuestReader};

const SECTOR: u64 = 512;
/// Offset of the dynamic header: after the copy of the footer.
const HEADER_AT: u64 = FOOTER as u64;
/// Offset of the block table.
const TABLE_AT: u64 = HEADER_AT + HEADER as u64;
/// Length of a block with its bitmap of one bit per sector.
const STORED_BLOCK: u64 = SECTOR + BLOCK;
/// Table entry of a block that is not stored.
const UNUSED: u32 = u32::MAX;

/// The kinds of VHD made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VhdKind {
    /// The unchanged disk, followed by a footer.
    Fixed,
    /// Blocks of 2 MiB, stored only if they hold data.
    Dynamic,
}

/// A disk presented as a VHD image.
#[derive(Debug)]
pub struct VhdView {
    disk: GuestReader,
    size: u64,
    footer: [u8; FOOTER],
    blocks: Option<Blocks>,
}

/// The parts that only a dynamic disk has.
#[derive(Debug)]
struct Blocks {
    header: [u8; HEADER],
    /// The block table: the sector of each block.
    table: Vec<u32>,
    /// The stored blocks, in the order of the file.
    stored: Vec<u32>,
    /// The offset of the first of them.
    data: u64,
}

impl VhdView {
    /// Presents `disk` as a VHD whose size is rounded up to a multiple of `size_multiple` bytes (at least of
    /// 512): clouds require 1 MiB. Identifier and time are taken from `stamp`.
    ///
    /// Refuses an empty disk and a disk of more than 2040 GiB, the limit of the format.
    pub fn of(
        disk: GuestReader,
        kind: VhdKind,
        size_multiple: u64,
        stamp: &Stamp,
    ) -> Result<Self, Error> {
        let whole_sectors = padded(disk.virtual_size(), SECTOR);
        let size = padded(padded(whole_sectors, size_multiple), SECTOR);
        if size == 0 || size > MAX_SIZE {
            let message = format!("no VHD can hold the {size} bytes of");
            return Err(Error::new(Kind::Unsupported, message).at(disk.path()).with_hint(
                "a VHD holds 512 bytes to 2040 GiB; use a smaller disk or another format",
            ));
        }
        let (blocks, header_at) = match kind {
            VhdKind::Fixed => (None, None),
            VhdKind::Dynamic => (Some(Blocks::new(&disk, size)?), Some(HEADER_AT)),
        };
        Ok(Self { footer: footer(size, header_at, stamp), disk, size, blocks })
    }

    /// Fills the start of `buf` from offset `at` of a dynamic image; returns the number of bytes filled.
    fn read_dynamic(&self, blocks: &Blocks, buf: &mut [u8], at: u64) -> Result<usize, Error> {
        let behind = blocks.data + blocks.stored.len() as u64 * STORED_BLOCK;
        if at < HEADER_AT {
            return Ok(copy(&self.footer, at, buf));
        }
        if at < TABLE_AT {
            return Ok(copy(&blocks.header, at - HEADER_AT, buf));
        }
        if at < blocks.data {
            return Ok(blocks.read_table(buf, at - TABLE_AT, blocks.data - at));
        }
        if at >= behind {
            return Ok(copy(&self.footer, at - behind, buf));
        }
        let (number, inside) =
            ((at - blocks.data) / STORED_BLOCK, (at - blocks.data) % STORED_BLOCK);
        if inside < SECTOR {
            let len = index((SECTOR - inside).min(buf.len() as u64));
            buf[..len].fill(0xff); // every sector of a stored block is in use
            return Ok(len);
        }
        let len = index((STORED_BLOCK - inside).min(buf.len() as u64));
        let place = u64::from(blocks.stored[index(number)]) * BLOCK + inside - SECTOR;
        let done = self.disk.read_at(&mut buf[..len], place)?;
        buf[done..len].fill(0);
        Ok(len)
    }
}

impl Blocks {
    fn new(disk: &GuestReader, size: u64) -> Result<Self, Error> {
        const CLUSTERS: u64 = BLOCK / CLUSTER;
        let map = Allocation::scan(disk)?;
        let count = u32::try_from(size.div_ceil(BLOCK)).unwrap_or(UNUSED);
        let data = padded(TABLE_AT + u64::from(count) * 4, SECTOR);
        let (mut table, mut stored) = (Vec::with_capacity(index(count.into())), Vec::new());
        for block in 0..count {
            let first = u64::from(block) * CLUSTERS;
            if map.rank(first + CLUSTERS) == map.rank(first) {
                table.push(UNUSED);
                continue;
            }
            // Fits into 32 bits: the largest disk has 2^32 sectors at most, and its blocks need a little
            // more.
            let sector = (data + stored.len() as u64 * STORED_BLOCK) / SECTOR;
            table.push(u32::try_from(sector).map_err(|_| too_full(disk))?);
            stored.push(block);
        }
        Ok(Self { header: dynamic_header(count, TABLE_AT), table, stored, data })
    }

    /// Fills the start of `buf` from offset `at` of the table, which ends in `rest` bytes.
    fn read_table(&self, buf: &mut [u8], at: u64, rest: u64) -> usize {
        let len = index(rest.min(buf.len() as u64));
        for (number, byte) in buf[..len].iter_mut().enumerate() {
            let place = index(at) + number;
            let entry = self.table.get(place / 4).unwrap_or(&UNUSED);
            *byte = entry.to_be_bytes()[place % 4];
        }
        len
    }
}

fn too_full(disk: &GuestReader) -> Error {
    Error::new(Kind::Unsupported, "a dynamic VHD cannot hold all the data of")
        .at(disk.path())
        .with_hint("use a smaller disk or another format")
}

/// Copies from offset `at` of `from` as many bytes as exist and fit.
fn copy(from: &[u8], at: u64, buf: &mut [u8]) -> usize {
    let tail = &from[index(at)..];
    let len = tail.len().min(buf.len());
    buf[..len].copy_from_slice(&tail[..len]);
    len
}

impl View for VhdView {
    fn format(&self) -> Format {
        Format::Vhd
    }

    fn virtual_size(&self) -> u64 {
        self.size
    }

    fn len(&self) -> u64 {
        let before = match &self.blocks {
            None => self.size,
            Some(blocks) => blocks.data + blocks.stored.len() as u64 * STORED_BLOCK,
        };
        before + FOOTER as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        let whole = index(self.len().saturating_sub(offset).min(buf.len() as u64));
        let mut done = 0;
        while done < whole {
            let at = offset + done as u64;
            let rest = &mut buf[done..whole];
            done += match &self.blocks {
                Some(blocks) => self.read_dynamic(blocks, rest, at)?,
                None if at < self.size => read_padded(&self.disk, self.size, rest, at)?,
                None => copy(&self.footer, at - self.size, rest),
            };
        }
        Ok(whole)
    }

    fn zeros_at(&self, offset: u64) -> Result<u64, Error> {
        match self.blocks {
            None => padded_zeros_at(&self.disk, self.size, offset),
            Some(_) => Ok(0),
        }
    }
}
