//! Decodes the entries of qcow2 tables and checks that every reference is inside the file.
//! Source: QEMU, docs/interop/qcow2.txt, sections "Refcounts" and "Cluster mapping".

use std::collections::HashSet;

use super::guest;
use super::header::Header;
use crate::error::Error;
use crate::field::{be64, index};
use crate::format::image::Image;
use crate::format::{Format, Probe};

const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const COPIED: u64 = 1 << 63;
/// Number of entries that are read at once while a table is checked.
const PIECE: u64 = 8192;

/// A guest cluster as an L2 entry describes it. Offsets are bytes in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cluster {
    /// Not stored: zeros (or the backing file).
    Unallocated,
    /// Reads as zeros, regardless of stored data.
    Zero,
    /// Stored uncompressed at this offset.
    Data(u64),
    /// Stored compressed within this range.
    Compressed { offset: u64, len: u64 },
}

impl Cluster {
    /// Decodes an L2 entry; the error is the reason why the entry is invalid.
    pub(super) fn decode(entry: u64, header: &Header) -> Result<Self, &'static str> {
        if entry & COMPRESSED != 0 {
            let offset_bits = 62 - (header.cluster_bits - 8);
            let offset = entry & ((1 << offset_bits) - 1);
            let sectors = ((entry & (COMPRESSED - 1)) >> offset_bits) + 1;
            return Ok(Self::Compressed { offset, len: sectors * 512 - offset % 512 });
        }
        if entry & !(OFFSET | COPIED | 1) != 0 {
            return Err("sets reserved bits");
        }
        let offset = entry & OFFSET;
        if !offset.is_multiple_of(header.cluster_size()) {
            return Err("does not point to the start of a cluster");
        }
        match (entry & 1, offset) {
            (1, _) if header.version < 3 => {
                Err("uses the zero flag, which version 2 does not have")
            }
            (1, _) => Ok(Self::Zero),
            (_, 0) => Ok(Self::Unallocated),
            (_, offset) => Ok(Self::Data(offset)),
        }
    }
}

/// Decodes an L1 entry into the offset of its L2 table; 0 = none.
pub(super) fn decode_l1(entry: u64, header: &Header) -> Result<u64, &'static str> {
    if entry & !(OFFSET | COPIED) != 0 {
        return Err("sets reserved bits");
    }
    let offset = entry & OFFSET;
    if offset.is_multiple_of(header.cluster_size()) {
        Ok(offset)
    } else {
        Err("does not point to the start of a cluster")
    }
}

/// Reads a table of big-endian 64-bit entries.
pub(super) fn read_table(image: &Image, offset: u64, entries: u64) -> Result<Vec<u64>, Error> {
    let mut bytes = vec![0; index(entries * 8)];
    image.read(&mut bytes, offset)?;
    Ok(bytes.chunks_exact(8).map(|entry| be64(entry, 0)).collect())
}

/// Checks the header and every reference in every table.
pub(in crate::format) fn probe(image: &Image) -> Result<Probe, Error> {
    let header = Header::read(image)?;
    check_refcount_table(image, &header)?;
    let compressed = Walk::new(image, &header).run()?;
    let mut probe = Probe::new(Format::Qcow2, image, header.virtual_size);
    probe.variant = Some(if header.version == 2 { "v2" } else { "v3" });
    probe.compressed = compressed;
    probe.compression = Some(header.compression);
    probe.encrypted = header.encrypted;
    probe.dirty = header.dirty;
    probe.snapshots = header.snapshots;
    probe.cluster_size = Some(header.cluster_size());
    probe.backing_file = header.backing_file;
    Ok(probe)
}

/// Calls a function for every entry of a table with its number; only a piece of the table is in memory at a
/// time.
fn each_entry(
    image: &Image,
    offset: u64,
    entries: u64,
    mut each: impl FnMut(u64, u64) -> Result<(), Error>,
) -> Result<(), Error> {
    for first in (0..entries).step_by(index(PIECE)) {
        let piece = read_table(image, offset + first * 8, PIECE.min(entries - first))?;
        for (entry, at) in piece.into_iter().zip(first..) {
            each(at, entry)?;
        }
    }
    Ok(())
}

fn check_refcount_table(image: &Image, header: &Header) -> Result<(), Error> {
    let entries = header.refcount_clusters * header.cluster_size() / 8;
    each_entry(image, header.refcount_offset, entries, |at, entry| {
        // A table may have a million entries, so the text is built only for an invalid one.
        let what = || format!("refcount table entry {at}");
        if entry & 0x1ff != 0 || !entry.is_multiple_of(header.cluster_size()) {
            let message = format!("{} does not point to the start of a cluster", what());
            return Err(image.malformed(&message));
        }
        if entry != 0 && !image.holds(entry, header.cluster_size()) {
            return Err(image.truncated(&what(), entry));
        }
        Ok(())
    })
}

/// One pass over the L1 table and all L2 tables, with one L2 table in memory at a time.
struct Walk<'a> {
    image: &'a Image,
    header: &'a Header,
    /// L2 tables that were visited. A table that is used twice would let a small file cause unlimited work.
    seen: HashSet<u64>,
    /// Compressed clusters at the very end of the file that were already decompressed.
    unpacked: HashSet<u64>,
    compressed: bool,
}

impl<'a> Walk<'a> {
    fn new(image: &'a Image, header: &'a Header) -> Self {
        Self { image, header, seen: HashSet::new(), unpacked: HashSet::new(), compressed: false }
    }

    /// Checks all tables; returns whether the image has a compressed cluster.
    fn run(mut self) -> Result<bool, Error> {
        let (offset, entries) = (self.header.l1_offset, self.header.l1_entries);
        each_entry(self.image, offset, entries, |at, entry| self.l1_entry(at, entry))?;
        Ok(self.compressed)
    }

    fn l1_entry(&mut self, at: u64, entry: u64) -> Result<(), Error> {
        let what = || format!("L1 entry {at}");
        let offset = decode_l1(entry, self.header)
            .map_err(|why| self.image.malformed(&format!("{} {why}", what())))?;
        if offset == 0 {
            return Ok(());
        }
        if !self.image.holds(offset, self.header.cluster_size()) {
            return Err(self.image.truncated(&what(), offset));
        }
        if !self.seen.insert(offset) {
            let message = format!("{} points to an L2 table already in use", what());
            return Err(self.image.malformed(&message));
        }
        self.l2_table(at, offset)
    }

    fn l2_table(&mut self, l1_index: u64, offset: u64) -> Result<(), Error> {
        let per_table = self.header.l2_entries();
        for (at, entry) in read_table(self.image, offset, per_table)?.into_iter().enumerate() {
            if entry != 0 {
                let guest = (l1_index * per_table + at as u64) << self.header.cluster_bits;
                self.l2_entry(entry, guest).map_err(|e| e.at_offset(offset + at as u64 * 8))?;
            }
        }
        Ok(())
    }

    fn l2_entry(&mut self, entry: u64, guest: u64) -> Result<(), Error> {
        let what = || format!("the L2 entry of guest byte {guest}");
        let cluster = Cluster::decode(entry, self.header)
            .map_err(|why| self.image.malformed(&format!("{} {why}", what())))?;
        match cluster {
            Cluster::Unallocated | Cluster::Zero => Ok(()),
            Cluster::Data(at) => {
                // Only the part of the last cluster inside the disk must exist.
                let used = self.header.virtual_size.saturating_sub(guest);
                let used = used.min(self.header.cluster_size());
                let there = at < self.image.len && self.image.holds(at, used);
                if there { Ok(()) } else { Err(self.image.truncated(&what(), at + used)) }
            }
            Cluster::Compressed { offset, len } => {
                self.compressed = true;
                if self.image.holds(offset, len) {
                    return Ok(());
                }
                // The length is counted in sectors, so the last sector may extend beyond the end of the file.
                if offset >= self.image.len || self.image.len - offset + 511 < len {
                    return Err(self.image.truncated(&what(), offset.saturating_add(len)));
                }
                if self.unpacked.insert(offset) {
                    guest::unpack_cluster(self.image, self.header, offset, len)?;
                }
                Ok(())
            }
        }
    }
}
