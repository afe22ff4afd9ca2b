//! Tests fixed VHD images.

/// A fixed VHD: the disk, then a footer (Microsoft's "Virtual Hard Disk Image Format Specification").
pub(crate) fn fixed_vhd(disk: &[u8]) -> Vec<u8> {
    let mut footer = vec![0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| footer[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"conectix");
    put(8, &2_u32.to_be_bytes());
    put(12, &0x0001_0000_u32.to_be_bytes());
    put(16, &u64::MAX.to_be_bytes());
    put(28, b"win ");
    put(40, &(disk.len() as u64).to_be_bytes());
    put(48, &(disk.len() as u64).to_be_bytes());
    put(60, &2_u32.to_be_bytes());
    put(68, &[7; 16]);
    let sum: u32 = footer.iter().map(|&byte| u32::from(byte)).sum();
    footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
    [disk, &footer].concat()
}
