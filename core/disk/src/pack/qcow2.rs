//! Writes a qcow2 image with deflated clusters. Source: QEMU, docs/interop/qcow2.txt.
//!
//! The number of tables is known before the first cluster is deflated, so they are placed at the start and
//! the data is written after them in one pass. Each table is written when it is complete; header and
//! refcounts are written last.

use std::path::Path;

use super::cluster::{Batch, Coding, deflate_clusters};
use super::control::Progress;
use super::growing::Outline;
use super::output::Output;
use super::place::{Places, descriptor, most_waste};
use super::whole::Frame;
use super::{Control, DigestKinds, Growing, Level};
use crate::error::Error;
use crate::field::index;
use crate::format::GuestReader;
use crate::view::{
    Allocation, CLUSTER, COPIED, L2_ENTRIES, Layout, Qcow2Header, Qcow2Version, refuse_half_sectors,
};

/// A disk to be written as a qcow2 image with deflated clusters.
#[derive(Debug)]
pub struct PackedQcow2 {
    disk: GuestReader,
    map: Allocation,
    version: Qcow2Version,
    level: Level,
}

impl PackedQcow2 {
    /// Determines which clusters hold data. Refuses a disk whose size is not a multiple of 512.
    pub fn of(disk: GuestReader) -> Result<Self, Error> {
        refuse_half_sectors(&disk)?;
        let map = Allocation::scan(&disk)?;
        Ok(Self { disk, map, version: Qcow2Version::default(), level: Level::default() })
    }

    /// Sets the version of the image; the default is version 3.
    #[must_use]
    pub fn with_version(mut self, version: Qcow2Version) -> Self {
        self.version = version;
        self
    }

    /// Sets the compression level.
    #[must_use]
    pub fn with_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Returns the number of bytes of the disk that hold data, in whole clusters.
    pub fn data_bytes(&self) -> u64 {
        self.map.allocated() * CLUSTER
    }

    /// Starts to write the image to `dest`. Its header and tables are the deferred prefix
    /// ([`Growing::deferred_prefix_len`]); digests require reading the file again, because they start with
    /// it.
    pub fn write(
        self,
        dest: &Path,
        digests: DigestKinds,
        control: &Control,
    ) -> Result<Growing, Error> {
        let room = most_waste(self.map.allocated());
        let layout = Layout::with_room(&self.map, room);
        let outline = Outline {
            length_limit: (layout.total + room) * CLUSTER,
            deferred_prefix_len: layout.data * CLUSTER,
            digests,
        };
        Growing::start(dest, outline, control, move |out| Image::new(&self, &layout).write(out))
    }
}

/// An incomplete image.
struct Image<'a> {
    source: &'a PackedQcow2,
    layout: &'a Layout,
    places: Places,
    /// The L2 table being filled, and the L1 entry it belongs to.
    table: Vec<u8>,
    l1_entry: u64,
    progress: Progress,
}

impl<'a> Image<'a> {
    fn new(source: &'a PackedQcow2, layout: &'a Layout) -> Self {
        let progress = Progress { done: 0, total: source.data_bytes() };
        let table = vec![0; index(CLUSTER)];
        Self { source, layout, places: Places::new(layout.data), table, l1_entry: 0, progress }
    }

    fn write(mut self, out: &mut Output) -> Result<(), Error> {
        out.extend_to(self.layout.data * CLUSTER)?;
        let coding = Coding { level: self.source.level, frame: Frame::None, may_stay: true };
        let control = out.control().clone();
        deflate_clusters(&control, &self.source.disk, &self.source.map, coding, |batch| {
            self.put(out, &batch)
        })?;
        self.put_table(out)?;
        out.extend_to(self.places.end())?;
        self.put_counters(out)?;
        self.put_l1(out)?;
        out.write_at(&self.header(), 0)
    }

    fn put(&mut self, out: &mut Output, batch: &Batch) -> Result<(), Error> {
        let mut bytes = batch.bytes.as_slice();
        // Adjacent clusters of the file are written with one call: `len` bytes at `start`.
        let (mut start, mut len) = (self.places.settled(), 0);
        for cluster in &batch.clusters {
            let size = cluster.len as u64;
            let at =
                if cluster.deflated { self.places.deflated(size) } else { self.places.whole() };
            if at != start + len as u64 {
                let (now, later) = bytes.split_at(len);
                out.write_at(now, start)?;
                (bytes, start, len) = (later, at, 0);
            }
            len += cluster.len;
            let entry = if cluster.deflated { descriptor(at, size) } else { at | COPIED };
            self.set_entry(out, cluster.guest, entry)?;
        }
        out.write_at(&bytes[..len], start)?;
        out.publish(self.places.settled());
        self.progress.done += batch.clusters.len() as u64 * CLUSTER;
        out.report(self.progress)
    }

    /// Sets an entry. Clusters come in guest order, so a table is complete when an entry of another one
    /// comes.
    fn set_entry(&mut self, out: &mut Output, guest: u64, entry: u64) -> Result<(), Error> {
        let l1_entry = guest / L2_ENTRIES;
        if l1_entry != self.l1_entry {
            self.put_table(out)?;
            self.table.fill(0);
            self.l1_entry = l1_entry;
        }
        let at = index(guest % L2_ENTRIES * 8);
        self.table[at..at + 8].copy_from_slice(&entry.to_be_bytes());
        Ok(())
    }

    fn put_table(&self, out: &mut Output) -> Result<(), Error> {
        match self.layout.l2_of(self.l1_entry) {
            Some(cluster) => out.write_at(&self.table, cluster * CLUSTER),
            None => Ok(()),
        }
    }

    fn put_l1(&self, out: &mut Output) -> Result<(), Error> {
        let entries = (0..self.layout.l1_entries)
            .map(|entry| self.layout.l2_of(entry).map_or(0, |table| (table * CLUSTER) | COPIED));
        let bytes: Vec<u8> = entries.flat_map(u64::to_be_bytes).collect();
        out.write_at(&bytes, self.layout.l1 * CLUSTER)
    }

    /// Writes the refcount table and its blocks.
    fn put_counters(&self, out: &mut Output) -> Result<(), Error> {
        let layout = self.layout;
        let places = (0..layout.refcount_blocks).map(|block| layout.refcount_block + block);
        let table: Vec<u8> = places.flat_map(|place| (place * CLUSTER).to_be_bytes()).collect();
        out.write_at(&table, layout.refcount_table * CLUSTER)?;
        let clusters = self.places.end().div_ceil(CLUSTER);
        let counters: Vec<u8> =
            (0..clusters).flat_map(|cluster| self.places.uses(cluster).to_be_bytes()).collect();
        out.write_at(&counters, layout.refcount_block * CLUSTER)
    }

    fn header(&self) -> Vec<u8> {
        Qcow2Header {
            version: self.source.version,
            virtual_size: self.source.disk.virtual_size(),
            l1_entries: self.layout.l1_entries,
            l1: self.layout.l1,
            refcount_table: self.layout.refcount_table,
            refcount_clusters: self.layout.refcount_block - self.layout.refcount_table,
        }
        .bytes()
    }
}
