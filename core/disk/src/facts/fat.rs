//! Reads just enough of FAT to list \EFI\BOOT. Source: Microsoft, "FAT: General Overview of On-Disk Format"
//! 1.03. Short names are sufficient, because all expected names fit 8.3. Every cluster chain is limited in
//! length, so a loop costs no more than a long directory.

use super::Architecture;
use super::table::Partition;
use crate::error::Error;
use crate::field::{index, le16, le32};
use crate::format::GuestReader;

/// The default boot loaders of UEFI (UEFI 2.10, 3.5.1.1).
const BOOT_FILES: [(&[u8; 11], Architecture); 4] = [
    (b"BOOTX64 EFI", Architecture::X86_64),
    (b"BOOTIA32EFI", Architecture::I386),
    (b"BOOTAA64EFI", Architecture::Aarch64),
    // The short name of BOOTRISCV64.EFI.
    (b"BOOTRI~1EFI", Architecture::Riscv64),
];
/// Length of a directory entry in bytes.
const ENTRY: usize = 32;
/// Maximum length of a directory in bytes; larger directories do not hold boot loaders in practice.
const MAX_DIRECTORY: u64 = 1 << 20;
const FOLDER: u8 = 0x10;
const VOLUME: u8 = 0x08;

/// The layout of a file system. Offsets are bytes from the start of the disk.
struct Fat<'a> {
    disk: &'a GuestReader,
    /// The end of the partition.
    end: u64,
    table: u64,
    /// Bits of a FAT entry: 12, 16, or 32.
    bits: u32,
    root: Root,
    data: u64,
    cluster: u64,
    clusters: u64,
}

enum Root {
    /// At this offset, with this length.
    Fixed(u64, u64),
    /// In a cluster chain that starts at this cluster.
    Chain(u64),
}

/// Returns the architectures for which a partition has a boot loader. The inner error is the reason why they
/// cannot be determined.
pub(super) fn boot_files(
    disk: &GuestReader,
    partition: &Partition,
) -> Result<Result<Vec<Architecture>, &'static str>, Error> {
    let Some(fat) = Fat::open(disk, partition)? else {
        return Ok(Err("holds no FAT file system"));
    };
    let mut folder = fat.directory(&fat.root)?;
    for name in [b"EFI        ", b"BOOT       "] {
        let found =
            entries(&folder).find(|entry| entry.starts_with(name) && entry[11] & FOLDER != 0);
        let Some(entry) = found else {
            return Ok(Err("has no folder \\EFI\\BOOT"));
        };
        let high = if fat.bits == 32 { u64::from(le16(entry, 20)) << 16 } else { 0 };
        let first = high | u64::from(le16(entry, 26));
        folder = fat.directory(&Root::Chain(first))?;
    }
    let files = entries(&folder).filter(|entry| entry[11] & FOLDER == 0);
    let boot_files = files.filter_map(|entry| {
        BOOT_FILES.into_iter().find(|(name, _)| entry.starts_with(*name)).map(|(_, found)| found)
    });
    Ok(Ok(boot_files.collect()))
}

/// Returns the entries that are in use and have a short name.
fn entries(folder: &[u8]) -> impl Iterator<Item = &[u8]> {
    let all = folder.chunks_exact(ENTRY).take_while(|entry| entry[0] != 0);
    // Deleted entries start with 0xe5; entries of long names have the attribute of a volume label.
    all.filter(|entry| entry[0] != 0xe5 && entry[11] & VOLUME == 0)
}

impl<'a> Fat<'a> {
    fn open(disk: &'a GuestReader, partition: &Partition) -> Result<Option<Self>, Error> {
        let mut raw = [0; 512];
        if disk.read_at(&mut raw, partition.start)? < raw.len() || raw[510..] != [0x55, 0xaa] {
            return Ok(None);
        }
        let (sector, per_cluster) = (u64::from(le16(&raw, 11)), u64::from(raw[13]));
        if !(512..=4096).contains(&sector)
            || !sector.is_power_of_two()
            || !per_cluster.is_power_of_two()
        {
            return Ok(None);
        }
        let or = |small: u16, large: u32| if small == 0 { u64::from(large) } else { small.into() };
        let (reserved, tables) = (u64::from(le16(&raw, 14)), u64::from(raw[16]));
        let root_entries = u64::from(le16(&raw, 17));
        let total = or(le16(&raw, 19), le32(&raw, 32));
        let table_len = or(le16(&raw, 22), le32(&raw, 36));
        // Sector counts have 32 bits, so nothing here overflows.
        let root = reserved + tables * table_len;
        let data = root + (root_entries * ENTRY as u64).div_ceil(sector);
        let Some(clusters) = total.checked_sub(data).map(|sectors| sectors / per_cluster) else {
            return Ok(None);
        };
        // According to the specification the number of clusters decides, but small file systems are formatted
        // as FAT32 nevertheless. A field that is zero only in FAT32 identifies them.
        let bits = match clusters {
            0 => return Ok(None),
            _ if le16(&raw, 22) == 0 => 32,
            1..4085 => 12,
            _ => 16,
        };
        let at = |sectors: u64| partition.start.saturating_add(sectors * sector);
        Ok(Some(Self {
            disk,
            end: partition.start.saturating_add(partition.len),
            table: at(reserved),
            bits,
            root: if bits == 32 {
                Root::Chain(u64::from(le32(&raw, 44)))
            } else {
                Root::Fixed(at(root), root_entries * ENTRY as u64)
            },
            data: at(data),
            cluster: per_cluster * sector,
            clusters,
        }))
    }

    /// Reads a directory, at most [`MAX_DIRECTORY`] bytes.
    fn directory(&self, root: &Root) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        match *root {
            Root::Fixed(at, len) => self.append(&mut bytes, at, len)?,
            Root::Chain(first) => {
                let mut next = first;
                while (2..self.clusters + 2).contains(&next) && bytes.len() as u64 <= MAX_DIRECTORY
                {
                    let at = self.data.saturating_add((next - 2) * self.cluster);
                    self.append(&mut bytes, at, self.cluster)?;
                    next = self.after(next)?;
                }
            }
        }
        Ok(bytes)
    }

    fn append(&self, bytes: &mut Vec<u8>, at: u64, len: u64) -> Result<(), Error> {
        let there = len.min(self.end.saturating_sub(at));
        let start = bytes.len();
        bytes.resize(start + index(there), 0);
        self.disk.read_at(&mut bytes[start..], at).map(|_| ())
    }

    /// Returns the next cluster of a chain; a number out of range is the end of the chain.
    fn after(&self, cluster: u64) -> Result<u64, Error> {
        let mut raw = [0; 4];
        let bit = cluster * u64::from(self.bits);
        self.disk.read_at(&mut raw, self.table.saturating_add(bit / 8))?;
        let value = u64::from(le32(&raw, 0)) >> (bit % 8);
        // The upper four of 32 bits are reserved.
        Ok(value & ((1 << self.bits.min(28)) - 1))
    }
}
