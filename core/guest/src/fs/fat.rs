//! Reads FAT 12, 16, and 32. Source: Microsoft, "FAT: General Overview of On-Disk Format" 1.03. Every cluster chain is
//! limited in length, so a loop costs no more than a long file.

use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;

use super::fat_name::{ENTRY, Found, entries};
use super::{Entry, FileSystem, Kind, MAX_ENTRIES, Opened};
use crate::bytes::{array, index, le16, le32};
use crate::source::Fault;
use crate::volume::Volume;

/// Maximum length of a directory in bytes.
const MAX_DIRECTORY: usize = 2 << 20;
/// Bytes of the table that are read together.
const WINDOW: usize = 4096;

/// The layout of a file system. Offsets are bytes from its start.
#[derive(Clone)]
pub(super) struct Fat {
    volume: Volume,
    table: u64,
    /// Bits of an entry of the table: 12, 16, or 32.
    bits: u32,
    root: Root,
    data: u64,
    cluster: u64,
    clusters: u64,
    /// Bytes of the table that were read last, with their offset.
    window: Rc<RefCell<(u64, Vec<u8>)>>,
}

#[derive(Clone, Copy)]
enum Root {
    /// At this offset, with this length.
    Fixed(u64, u64),
    /// In a chain that starts at this cluster.
    Chain(u64),
}

/// What a path leads to.
enum Target {
    Root,
    Entry(Found),
}

impl Fat {
    pub(super) fn open(volume: &Volume) -> Result<Self, Fault> {
        let raw = volume.head(0, 512)?;
        Self::layout(volume, &raw).ok_or_else(|| Fault::damaged("its boot sector is malformed"))
    }

    fn layout(volume: &Volume, raw: &[u8]) -> Option<Self> {
        let byte = |at: usize| raw.get(at).copied().map(u64::from);
        let (short, long) = (|at| le16(raw, at).map(u64::from), |at| le32(raw, at).map(u64::from));
        let (sector, per_cluster) = (short(11)?, byte(13)?);
        if !(512..=4096).contains(&sector)
            || !sector.is_power_of_two()
            || !per_cluster.is_power_of_two()
        {
            return None;
        }
        let or = |small: u64, large: u64| if small == 0 { large } else { small };
        let root_entries = short(17)?;
        let (total, table) = (or(short(19)?, long(32)?), or(short(22)?, long(36)?));
        // Sector counts have 32 bits, so nothing here overflows.
        let reserved = short(14)?;
        let root = reserved + byte(16)? * table;
        let data = root + (root_entries * ENTRY as u64).div_ceil(sector);
        let clusters = total.checked_sub(data)? / per_cluster;
        // According to the specification the number of clusters decides, but small file systems are formatted as
        // FAT32 nevertheless. A field that is zero only in FAT32 identifies them.
        let bits = match clusters {
            0 => return None,
            _ if short(22)? == 0 => 32,
            1..4085 => 12,
            _ => 16,
        };
        Some(Self {
            volume: volume.clone(),
            table: reserved * sector,
            bits,
            root: if bits == 32 {
                Root::Chain(long(44)?)
            } else {
                Root::Fixed(root * sector, root_entries * ENTRY as u64)
            },
            data: data * sector,
            cluster: per_cluster * sector,
            clusters,
            window: Rc::default(),
        })
    }

    /// Returns the next cluster of a chain; `None` at its end.
    fn after(&self, cluster: u64) -> Result<Option<u64>, Fault> {
        let bit = cluster * u64::from(self.bits);
        let at = self.table + bit / 8;
        let raw = self.entry(at)?;
        let value = u64::from(u32::from_le_bytes(raw)) >> (bit % 8);
        // The upper four of 32 bits are reserved.
        Ok(self.valid(value & ((1 << self.bits.min(28)) - 1)))
    }

    /// Returns four bytes of the table; consecutive entries are read together.
    fn entry(&self, at: u64) -> Result<[u8; 4], Fault> {
        let mut window = self.window.borrow_mut();
        let known = |window: &(u64, Vec<u8>)| {
            let inside = at.checked_sub(window.0).map(index)?;
            array(&window.1, inside)
        };
        if let Some(raw) = known(&window) {
            return Ok(raw);
        }
        *window = (at, self.volume.head(at, WINDOW)?);
        known(&window).ok_or_else(|| Fault::damaged("its table is truncated"))
    }

    /// Returns how many clusters follow one another from `first` on, at most about `most`, and the one behind them.
    fn run(&self, first: u64, most: u64) -> Result<(u64, Option<u64>), Fault> {
        let mut count = 1;
        loop {
            let next = self.after(first + count - 1)?;
            if next != Some(first + count) || count >= most {
                return Ok((count, next));
            }
            count += 1;
        }
    }

    fn valid(&self, cluster: u64) -> Option<u64> {
        (2..self.clusters + 2).contains(&cluster).then_some(cluster)
    }

    fn offset(&self, cluster: u64) -> u64 {
        self.data + (cluster - 2) * self.cluster
    }

    fn directory(&self, root: Root) -> Result<Vec<Found>, Fault> {
        let first = match root {
            Root::Fixed(at, len) => return Ok(entries(&self.volume.head(at, index(len))?)),
            Root::Chain(first) => first,
        };
        let (mut bytes, mut next) = (Vec::new(), self.valid(first));
        while let Some(cluster) = next.filter(|_| bytes.len() < MAX_DIRECTORY) {
            bytes.extend(self.volume.head(self.offset(cluster), index(self.cluster))?);
            next = self.after(cluster)?;
        }
        Ok(entries(&bytes))
    }

    fn find(&self, path: &str) -> Result<Target, Fault> {
        let mut target = Target::Root;
        for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
            let place = self.place(&target)?;
            let found = self.directory(place)?.into_iter().find(|entry| entry.is_called(name));
            target = Target::Entry(found.ok_or(Fault::Missing)?);
        }
        Ok(target)
    }

    /// Returns where the entries of a directory are.
    fn place(&self, target: &Target) -> Result<Root, Fault> {
        match target {
            Target::Root => Ok(self.root),
            Target::Entry(entry) if entry.is_directory => Ok(Root::Chain(entry.cluster)),
            Target::Entry(_) => Err(Fault::Missing),
        }
    }
}

impl FileSystem for Fat {
    fn open(&self, path: &str) -> Result<Opened, Fault> {
        match self.find(path)? {
            Target::Entry(entry) if !entry.is_directory => {
                let next = self.valid(entry.cluster);
                let file = File { fat: self.clone(), next, skip: 0, left: entry.len };
                Ok(Opened { len: entry.len, reader: Box::new(file) })
            }
            _ => Err(Fault::Missing),
        }
    }

    fn kind(&self, path: &str) -> Result<Kind, Fault> {
        Ok(match self.find(path)? {
            Target::Entry(entry) if !entry.is_directory => Kind::File,
            _ => Kind::Directory,
        })
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>, Fault> {
        let target = self.find(path)?;
        let found = self.directory(self.place(&target)?)?;
        let kind = |is_directory| if is_directory { Kind::Directory } else { Kind::File };
        let all = found.into_iter().take(MAX_ENTRIES);
        Ok(all.map(|entry| Entry { kind: kind(entry.is_directory), name: entry.name }).collect())
    }
}

/// A file that is read in order.
struct File {
    fat: Fat,
    next: Option<u64>,
    /// Bytes of the next cluster that have been read.
    skip: u64,
    left: u64,
}

impl Read for File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buf.is_empty() {
            return Ok(0);
        }
        let Some(cluster) = self.next else {
            let text = "its cluster chain ends before the file";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        };
        let size = self.fat.cluster;
        let failed = |_| io::Error::from(io::ErrorKind::InvalidData);
        let wanted = self.left.min(buf.len() as u64);
        let (count, behind) =
            self.fat.run(cluster, (self.skip + wanted).div_ceil(size)).map_err(failed)?;
        let now = (count * size - self.skip).min(wanted);
        let (piece, _) = buf.split_at_mut(index(now));
        self.fat.volume.read(piece, self.fat.offset(cluster) + self.skip).map_err(failed)?;
        self.left -= now;
        let read = self.skip + now;
        self.skip = read % size;
        self.next = if read / size < count { Some(cluster + read / size) } else { behind };
        Ok(piece.len())
    }
}
