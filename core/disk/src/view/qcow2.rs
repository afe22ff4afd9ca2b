//! Computes an uncompressed qcow2 image (version 3 or 2) from a disk: header and tables are computed per
//! read, data clusters are copied from the disk. Source: QEMU, docs/interop/qcow2.txt.
//! Memory: one bit per 64 KiB of disk and as much again for counts, independent of the amount of data.

use std::path::Path;

use super::View;
use super::allocation::{Allocation, CLUSTER};
use super::layout::{BLOCK_ENTRIES, L2_ENTRIES, Layout};
use crate::error::{Error, Kind};
use crate::field::index;
use crate::format::{Format, GuestReader};

/// Length in bytes of the version 3 header written here: no compression type, no extension except the end
/// mark.
const HEADER_LENGTH: u32 = 104;
/// "This cluster is used once", which is true for every cluster here.
pub(crate) const COPIED: u64 = 1 << 63;

/// Length of the version 2 header, which ends before the feature bits.
const V2_HEADER_LENGTH: usize = 72;

/// The version of a qcow2 image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Qcow2Version {
    /// Supported also by QEMU before 1.1; `compat=0.10` in qemu-img.
    V2,
    /// The default of QEMU since 1.7.
    #[default]
    V3,
}

/// A disk presented as a qcow2 image.
#[derive(Debug)]
pub struct Qcow2View {
    version: Qcow2Version,
    disk: GuestReader,
    map: Allocation,
    layout: Layout,
}

impl Qcow2View {
    /// Opens the disk in `path`, raw or any other format, and determines which clusters hold data.
    ///
    /// Refuses a disk whose size is not a multiple of 512: a qcow2 image cannot have such a size.
    pub fn new(path: &Path) -> Result<Self, Error> {
        Self::of(GuestReader::open(path)?)
    }

    /// Presents an open disk; otherwise like [`Qcow2View::new`].
    pub fn of(disk: GuestReader) -> Result<Self, Error> {
        refuse_half_sectors(&disk)?;
        let map = Allocation::scan(&disk)?;
        let layout = Layout::new(&map);
        Ok(Self { version: Qcow2Version::default(), disk, map, layout })
    }

    /// Sets the version of the image; the default is version 3.
    #[must_use]
    pub fn with_version(mut self, version: Qcow2Version) -> Self {
        self.version = version;
        self
    }

    /// Returns the number of bytes of the disk that are stored in the image.
    pub fn data_bytes(&self) -> u64 {
        self.map.allocated() * CLUSTER
    }

    fn header(&self) -> Vec<u8> {
        Header {
            version: self.version,
            virtual_size: self.virtual_size(),
            l1_entries: self.layout.l1_entries,
            l1: self.layout.l1,
            refcount_table: self.layout.refcount_table,
            refcount_clusters: self.layout.refcount_block - self.layout.refcount_table,
        }
        .bytes()
    }

    /// Returns eight bytes of the table in cluster `cluster`, which is not a data cluster.
    fn metadata_word(&self, cluster: u64, word: u64) -> u64 {
        let layout = &self.layout;
        if cluster >= layout.l2 {
            let l1_entry = layout.l1_entry_of(cluster - layout.l2);
            let guest = l1_entry * L2_ENTRIES + word;
            let place = (layout.data + self.map.rank(guest)) * CLUSTER;
            return if self.map.holds(guest) { place | COPIED } else { 0 };
        }
        if cluster >= layout.l1 {
            let entry = (cluster - layout.l1) * (CLUSTER / 8) + word;
            return layout.l2_of(entry).map_or(0, |table| (table * CLUSTER) | COPIED);
        }
        if cluster >= layout.refcount_block {
            // Four 16-bit counts: 1 for each cluster of the image, 0 after its end.
            let first = (cluster - layout.refcount_block) * BLOCK_ENTRIES + word * 4;
            let used = layout.total.saturating_sub(first).min(4);
            return 0x0001_0001_0001_0001_u64.checked_shl(small((4 - used) * 16)).unwrap_or(0);
        }
        let block = (cluster - layout.refcount_table) * (CLUSTER / 8) + word;
        let there = block < layout.refcount_blocks;
        if there { (layout.refcount_block + block) * CLUSTER } else { 0 }
    }

    /// Fills `buf` from offset `inside` of a cluster before the data.
    fn read_metadata(&self, buf: &mut [u8], cluster: u64, inside: u64) {
        if cluster == 0 {
            let header = self.header();
            let tail = header.get(index(inside)..).unwrap_or(&[]);
            let len = tail.len().min(buf.len());
            buf[..len].copy_from_slice(&tail[..len]);
            buf[len..].fill(0);
            return;
        }
        let mut at = inside;
        let mut rest = buf;
        while !rest.is_empty() {
            let word = self.metadata_word(cluster, at / 8).to_be_bytes();
            let from = index(at % 8);
            let len = (8 - from).min(rest.len());
            let (now, later) = rest.split_at_mut(len);
            now.copy_from_slice(&word[from..from + len]);
            at += len as u64;
            rest = later;
        }
    }

    /// Fills the start of `buf` from the data region; returns the number of bytes filled. A run of adjacent
    /// guest clusters is read at once.
    fn read_data(&self, buf: &mut [u8], rank: u64, inside: u64) -> Result<usize, Error> {
        let first = self.map.select(rank);
        let mut end = first + 1;
        while self.map.holds(end) && (end - first) * CLUSTER - inside < buf.len() as u64 {
            end += 1;
        }
        let run = (end - first) * CLUSTER - inside;
        let len = index(run.min(buf.len() as u64));
        let done = self.disk.read_at(&mut buf[..len], first * CLUSTER + inside)?;
        // Only the last cluster of a disk may be shorter than the cluster that stores it.
        buf[done..len].fill(0);
        Ok(len)
    }
}

/// The header fields that differ between the images made here; offsets and lengths are clusters.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) version: Qcow2Version,
    /// In bytes.
    pub(crate) virtual_size: u64,
    pub(crate) l1_entries: u64,
    pub(crate) l1: u64,
    pub(crate) refcount_table: u64,
    pub(crate) refcount_clusters: u64,
}

impl Header {
    /// Returns the header with the end mark of its extensions.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(index(u64::from(HEADER_LENGTH)) + 8);
        let version: u32 = match self.version {
            Qcow2Version::V2 => 2,
            Qcow2Version::V3 => 3,
        };
        out.extend(b"QFI\xfb");
        out.extend(version.to_be_bytes());
        out.extend([0; 8 + 4]); // no backing file
        out.extend(CLUSTER.trailing_zeros().to_be_bytes());
        out.extend(self.virtual_size.to_be_bytes());
        out.extend(0_u32.to_be_bytes()); // not encrypted
        out.extend(small(self.l1_entries).to_be_bytes());
        out.extend((self.l1 * CLUSTER).to_be_bytes());
        out.extend((self.refcount_table * CLUSTER).to_be_bytes());
        out.extend(small(self.refcount_clusters).to_be_bytes());
        out.extend([0; 4 + 8]); // no snapshots
        debug_assert_eq!(out.len(), V2_HEADER_LENGTH, "version 2 ends here");
        if self.version == Qcow2Version::V3 {
            out.extend([0; 3 * 8]); // no feature bits
            out.extend(4_u32.to_be_bytes()); // refcounts of 2^4 bits, as always in version 2
            out.extend(HEADER_LENGTH.to_be_bytes());
        }
        out.extend([0; 8]); // end of header extensions
        out
    }
}

/// Refuses a size that is not a multiple of 512, which a qcow2 image cannot have.
pub(crate) fn refuse_half_sectors(disk: &GuestReader) -> Result<(), Error> {
    if disk.virtual_size().is_multiple_of(512) {
        return Ok(());
    }
    let message = format!("{} bytes are no whole number of sectors in", disk.virtual_size());
    Err(Error::new(Kind::Unsupported, message)
        .at(disk.path())
        .with_hint("extend the disk with `truncate` to a multiple of 512 bytes"))
}

/// Converts a number of tables or bits, which is far below 2^32 for every disk size that a file can have.
fn small(value: u64) -> u32 {
    u32::try_from(value).expect("table counts of a 64-bit file fit 32 bits")
}

impl View for Qcow2View {
    fn format(&self) -> Format {
        Format::Qcow2
    }

    fn virtual_size(&self) -> u64 {
        self.disk.virtual_size()
    }

    fn len(&self) -> u64 {
        self.layout.total * CLUSTER
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        let whole = index(self.len().saturating_sub(offset).min(buf.len() as u64));
        let mut done = 0;
        while done < whole {
            let at = offset + done as u64;
            let (cluster, inside) = (at / CLUSTER, at % CLUSTER);
            let rest = &mut buf[done..whole];
            done += match cluster.checked_sub(self.layout.data) {
                Some(rank) => self.read_data(rest, rank, inside)?,
                None => {
                    let len = rest.len().min(index(CLUSTER - inside));
                    self.read_metadata(&mut rest[..len], cluster, inside);
                    len
                }
            };
        }
        Ok(whole)
    }
}
