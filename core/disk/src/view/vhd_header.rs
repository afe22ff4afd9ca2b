//! Builds the footer and the dynamic header of the VHDs made here, independent of the location of data.
//! Source: VHD specification 1.0, "Hard Disk Footer Format" and "Dynamic Disk Header Format".
//!
//! Two choices follow QEMU's `subformat=fixed,force_size`, which clouds are known to accept: the creator is
//! `qem2` and the geometry is the largest one. Both mean "the size field counts, not the geometry"; some
//! readers truncate the disks of other creators to cylinders × heads × sectors.

use super::stamp::Stamp;

/// Length of the footer and of its copy at the start of a dynamic disk, in bytes.
pub(super) const FOOTER: usize = 512;
/// Length of the dynamic header in bytes.
pub(super) const HEADER: usize = 1024;
/// Data bytes of a block, the default of the format.
pub(super) const BLOCK: u64 = 2 << 20;
/// The largest disk the format allows: 2040 GiB.
pub(super) const MAX_SIZE: u64 = 2040 << 30;
/// 65535 cylinders, 16 heads, 255 sectors.
const LARGEST_GEOMETRY: u32 = 0xffff_10ff;
/// "There is no next structure."
const NOWHERE: u64 = u64::MAX;

/// Builds the footer of a disk of `size` bytes; `header_at` is the offset of the dynamic header, if any.
pub(super) fn footer(size: u64, header_at: Option<u64>, stamp: &Stamp) -> [u8; FOOTER] {
    let mut out = [0; FOOTER];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"conectix");
    put(8, &2_u32.to_be_bytes()); // features: the reserved bit, always set
    put(12, &0x0001_0000_u32.to_be_bytes()); // version 1.0
    put(16, &header_at.unwrap_or(NOWHERE).to_be_bytes());
    put(24, &stamp.seconds_since_2000().to_be_bytes());
    put(28, b"qem2");
    put(32, &0x0005_0003_u32.to_be_bytes());
    put(36, b"Wi2k");
    put(40, &size.to_be_bytes());
    put(48, &size.to_be_bytes());
    put(56, &LARGEST_GEOMETRY.to_be_bytes());
    put(60, &if header_at.is_some() { 3_u32 } else { 2 }.to_be_bytes());
    put(68, &stamp.uuid("vhd"));
    seal(&mut out, 64);
    out
}

/// Builds the header of a dynamic disk with `blocks` entries in the table at offset `table_at`.
pub(super) fn dynamic_header(blocks: u32, table_at: u64) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"cxsparse");
    put(8, &NOWHERE.to_be_bytes());
    put(16, &table_at.to_be_bytes());
    put(24, &0x0001_0000_u32.to_be_bytes());
    put(28, &blocks.to_be_bytes());
    put(32, &(2_u32 << 20).to_be_bytes());
    seal(&mut out, 36);
    out
}

/// Writes the one's complement of the sum of all bytes to the still empty field at `at`.
fn seal(bytes: &mut [u8], at: usize) {
    let sum = bytes.iter().fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    bytes[at..at + 4].copy_from_slice(&(!sum).to_be_bytes());
}
