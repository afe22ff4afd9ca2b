//! Provides small disks for imports: raw bytes, and qcow2 images constructed byte by byte.

/// A raw disk of this many bytes that is not all zeros.
pub(crate) fn raw(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index / 512 % 251).unwrap()).collect()
}

/// An empty qcow2 (version 2, clusters of 64 KiB) of a virtual size, optionally with a backing file.
pub(crate) fn qcow2(virtual_size: u64, backing: Option<&str>) -> Vec<u8> {
    const CLUSTER: usize = 65_536;
    let mut file = vec![0; 4 * CLUSTER];
    let mut at = 0;
    let mut field = |bytes: &[u8]| {
        file[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    let name = backing.unwrap_or_default();
    let name_offset: u64 = if name.is_empty() { 0 } else { 512 };
    let name_length = u32::try_from(name.len()).unwrap();
    let l1_entries = u32::try_from(virtual_size.div_ceil(512 << 20)).unwrap();
    field(b"QFI\xfb");
    field(&2_u32.to_be_bytes());
    field(&name_offset.to_be_bytes());
    field(&name_length.to_be_bytes());
    field(&16_u32.to_be_bytes());
    field(&virtual_size.to_be_bytes());
    field(&0_u32.to_be_bytes());
    field(&l1_entries.to_be_bytes());
    field(&65_536_u64.to_be_bytes());
    field(&(2 * 65_536_u64).to_be_bytes());
    field(&1_u32.to_be_bytes());
    file[512..512 + name.len()].copy_from_slice(name.as_bytes());
    file[2 * CLUSTER..2 * CLUSTER + 8].copy_from_slice(&(3 * 65_536_u64).to_be_bytes());
    for cluster in 0..4 {
        file[3 * CLUSTER + 2 * cluster + 1] = 1;
    }
    file
}
