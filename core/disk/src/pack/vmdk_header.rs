//! Builds the fixed parts of a streamOptimized VMDK: header, descriptor, markers.
//! Source: VMware, "Virtual Disk Format 5.0", chapters "Hosted Sparse Extents" and "Stream-Optimized
//! Compressed Sparse Extents". All numbers are little-endian.

use crate::view::Stamp;

pub(super) const SECTOR: u64 = 512;
/// Length of a grain, the unit of compression, in sectors: 64 KiB.
pub(super) const GRAIN: u64 = 128;
/// Number of entries of a grain table.
pub(super) const TABLE_ENTRIES: u64 = 512;
/// Number of sectors before the first grain.
pub(super) const OVERHEAD: u64 = 128;
/// The first sector of the descriptor, and its length in sectors.
const DESCRIPTOR: (u64, u64) = (1, 20);
/// "The offset of the grain directory is in the footer."
pub(super) const AT_END: u64 = u64::MAX;

/// The type of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    EndOfStream = 0,
    Table = 1,
    Directory = 2,
    Footer = 3,
}

/// Builds the marker sector before `sectors` sectors of metadata.
pub(super) fn marker(marker: Marker, sectors: u64) -> [u8; 512] {
    let mut out = [0; 512];
    out[..8].copy_from_slice(&sectors.to_le_bytes());
    out[12..16].copy_from_slice(&(marker as u32).to_le_bytes());
    out
}

/// Builds the header of a disk of `capacity` sectors; with the real offset of the grain directory, it is the
/// footer.
pub(super) fn header(capacity: u64, directory: u64) -> [u8; 512] {
    /// Line ends can be checked, grains are deflated, markers precede grains and tables.
    const FLAGS: u32 = 1 | 1 << 16 | 1 << 17;
    let mut out = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"KDMV");
    put(4, &3_u32.to_le_bytes());
    put(8, &FLAGS.to_le_bytes());
    put(12, &capacity.to_le_bytes());
    put(20, &GRAIN.to_le_bytes());
    put(28, &DESCRIPTOR.0.to_le_bytes());
    put(36, &DESCRIPTOR.1.to_le_bytes());
    put(44, &512_u32.to_le_bytes());
    put(56, &directory.to_le_bytes()); // at 48: no redundant directory
    put(64, &OVERHEAD.to_le_bytes());
    put(73, b"\n \r\n");
    put(77, &1_u16.to_le_bytes()); // deflate
    out
}

/// Builds the text of the descriptor, padded to its sectors. The extent line names the file `name`.
pub(super) fn descriptor(capacity: u64, name: &str, hardware: u32, stamp: &Stamp) -> Vec<u8> {
    let id = stamp.uuid("vmdk");
    let mut content = u32::from_be_bytes([id[0], id[1], id[2], id[3]]);
    // The last two mean "no parent" and "unknown".
    content = content.min(u32::MAX - 2);
    let long: String = id[4..].iter().map(|byte| format!("{byte:02x}")).collect();
    let cylinders = capacity.div_ceil(255 * 63).min(65_535);
    let text = format!(
        "# Disk DescriptorFile\n\
         version=1\n\
         encoding=\"UTF-8\"\n\
         CID={content:08x}\n\
         parentCID=ffffffff\n\
         createType=\"streamOptimized\"\n\
         \n\
         # Extent description\n\
         RW {capacity} SPARSE \"{name}\"\n\
         \n\
         # The Disk Data Base\n\
         #DDB\n\
         \n\
         ddb.adapterType = \"lsilogic\"\n\
         ddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"255\"\n\
         ddb.geometry.sectors = \"63\"\n\
         ddb.longContentID = \"{long}{content:08x}\"\n\
         ddb.toolsVersion = \"2147483647\"\n\
         ddb.virtualHWVersion = \"{hardware}\"\n"
    );
    let mut out = text.into_bytes();
    out.resize(usize::try_from(DESCRIPTOR.1 * SECTOR).unwrap_or(out.len()), 0);
    out
}
