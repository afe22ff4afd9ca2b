//! Writes a streamOptimized VMDK: grains of 64 KiB, each a separate zlib stream, the table of every 512
//! grains after them, the directory and a second header at the end. Source: see `vmdk_header.rs`.

use std::path::Path;

use super::archive::check_name;
use super::cluster::{Batch, Coding, deflate_clusters};
use super::control::Progress;
use super::digest::Hashes;
use super::growing::Outline;
use super::output::Output;
use super::vmdk_header::{
    AT_END, GRAIN, Marker, OVERHEAD, SECTOR, TABLE_ENTRIES, descriptor, header, marker,
};
use super::whole::{Frame, longest};
use super::{Control, DigestKinds, Growing, Level};
use crate::error::{Error, Kind};
use crate::field::index;
use crate::format::GuestReader;
use crate::view::{Allocation, CLUSTER, Stamp};

/// Length of the sector number and the length before a deflated grain, in bytes.
const GRAIN_HEADER: u64 = 12;
/// Length of a grain table in sectors.
const TABLE: u64 = TABLE_ENTRIES * 4 / SECTOR;

/// A disk to be written as a streamOptimized VMDK: deflated grains of 64 KiB, readable from front to back,
/// which VMware's import and cloud importers support.
#[derive(Debug)]
pub struct StreamVmdk {
    disk: GuestReader,
    map: Allocation,
    level: Level,
    name: String,
    hardware: u32,
    stamp: Stamp,
}

impl StreamVmdk {
    /// Determines which grains hold data. `name` is the file name for the descriptor; `stamp` determines the
    /// identifiers.
    pub fn of(disk: GuestReader, name: impl Into<String>, stamp: &Stamp) -> Result<Self, Error> {
        let name = name.into();
        check_name(&name)?;
        if name.contains('"') {
            let message = format!("`{name}` is not a name for a VMDK");
            return Err(Error::new(Kind::Unsupported, message).with_hint("leave the quotes out"));
        }
        let map = Allocation::scan(&disk)?;
        if map.clusters() == 0 {
            let message = "no VMDK can hold the 0 bytes of";
            return Err(Error::new(Kind::Unsupported, message).at(disk.path()));
        }
        Ok(Self { disk, map, level: Level::default(), name, hardware: 10, stamp: stamp.clone() })
    }

    /// Sets the compression level.
    #[must_use]
    pub fn with_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Sets the virtual hardware version in the descriptor; the default is 10.
    #[must_use]
    pub fn with_hardware_version(mut self, version: u32) -> Self {
        self.hardware = version;
        self
    }

    /// Returns the file name in the descriptor.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the size of the disk in bytes: the guest's size, rounded up to whole grains of 64 KiB.
    pub fn virtual_size(&self) -> u64 {
        self.map.clusters() * CLUSTER
    }

    /// Returns the number of bytes of the disk that hold data, in whole grains.
    pub fn data_bytes(&self) -> u64 {
        self.map.allocated() * CLUSTER
    }

    /// Returns the maximum length of the image in bytes.
    pub fn length_limit(&self) -> u64 {
        let grain = (GRAIN_HEADER + longest(CLUSTER)).next_multiple_of(SECTOR);
        let tables = self.map.clusters().div_ceil(TABLE_ENTRIES);
        let directory = (tables * 4).next_multiple_of(SECTOR);
        let fixed = OVERHEAD + tables * (TABLE + 1) + 4;
        self.map.allocated() * grain + fixed * SECTOR + directory
    }

    /// Starts to write the image to `dest`; its bytes become final in order.
    pub fn write(
        self,
        dest: &Path,
        digests: DigestKinds,
        control: &Control,
    ) -> Result<Growing, Error> {
        let outline =
            Outline { length_limit: self.length_limit(), deferred_prefix_len: 0, digests };
        Growing::start(dest, outline, control, move |out| {
            let mut progress = Progress { done: 0, total: self.data_bytes() };
            self.append_to(out, &mut Hashes::default(), &mut progress)
        })
    }

    /// Appends the image to `out` and updates `hashes`.
    pub(super) fn append_to(
        &self,
        out: &mut Output,
        hashes: &mut Hashes,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        let control = out.control().clone();
        let start = out.end();
        let mut stream = Stream { vmdk: self, out, hashes, start, table: None, directory: vec![] };
        stream.begin()?;
        let coding = Coding { level: self.level, frame: Frame::Zlib, may_stay: false };
        deflate_clusters(&control, &self.disk, &self.map, coding, |batch| {
            stream.put(&batch)?;
            progress.done += batch.clusters.len() as u64 * CLUSTER;
            stream.out.report(*progress)
        })?;
        stream.end()
    }
}

/// An incomplete image.
struct Stream<'a> {
    vmdk: &'a StreamVmdk,
    out: &'a mut Output,
    hashes: &'a mut Hashes,
    start: u64,
    /// The number of the current table, and its entries.
    table: Option<(u64, Vec<u8>)>,
    /// The first sector of each table.
    directory: Vec<u8>,
}

impl Stream<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hashes.update(bytes);
        self.out.append(bytes)
    }

    fn capacity(&self) -> u64 {
        self.vmdk.map.clusters() * GRAIN
    }

    /// Returns the sector of the next byte.
    fn sector(&self) -> Result<u32, Error> {
        let sector = (self.out.end() - self.start) / SECTOR;
        u32::try_from(sector).map_err(|_| {
            Error::new(Kind::Unsupported, "a VMDK of more than 2 TiB would come of")
                .at(self.vmdk.disk.path())
                .with_hint("use a smaller disk or another format")
        })
    }

    fn begin(&mut self) -> Result<(), Error> {
        let vmdk = self.vmdk;
        let mut head = header(self.capacity(), AT_END).to_vec();
        head.extend(descriptor(self.capacity(), &vmdk.name, vmdk.hardware, &vmdk.stamp));
        head.resize(index(OVERHEAD * SECTOR), 0);
        self.append(&head)
    }

    fn put(&mut self, batch: &Batch) -> Result<(), Error> {
        let mut rest = batch.bytes.as_slice();
        let mut grain = Vec::new();
        for cluster in &batch.clusters {
            let (bytes, later) = rest.split_at(cluster.len);
            rest = later;
            let number = cluster.guest / TABLE_ENTRIES;
            if self.table.as_ref().is_some_and(|(table, _)| *table != number) {
                self.put_table()?;
            }
            let sector = self.sector()?;
            let empty = || (number, vec![0; index(TABLE * SECTOR)]);
            let (_, entries) = self.table.get_or_insert_with(empty);
            let at = index(cluster.guest % TABLE_ENTRIES * 4);
            entries[at..at + 4].copy_from_slice(&sector.to_le_bytes());
            grain.clear();
            grain.extend((cluster.guest * GRAIN).to_le_bytes());
            grain.extend(u32::try_from(cluster.len).unwrap_or(0).to_le_bytes());
            grain.extend(bytes);
            grain.resize(grain.len().next_multiple_of(index(SECTOR)), 0);
            self.append(&grain)?;
        }
        self.out.publish(self.out.end());
        Ok(())
    }

    /// Writes the current table, if any.
    fn put_table(&mut self) -> Result<(), Error> {
        let Some((number, entries)) = self.table.take() else { return Ok(()) };
        self.append(&marker(Marker::Table, TABLE))?;
        let sector = self.sector()?;
        self.directory.resize(index(number * 4), 0);
        self.directory.extend(sector.to_le_bytes());
        self.append(&entries)
    }

    fn end(&mut self) -> Result<(), Error> {
        self.put_table()?;
        let tables = self.vmdk.map.clusters().div_ceil(TABLE_ENTRIES);
        let mut directory = std::mem::take(&mut self.directory);
        directory.resize(index((tables * 4).next_multiple_of(SECTOR)), 0);
        self.append(&marker(Marker::Directory, directory.len() as u64 / SECTOR))?;
        let place = u64::from(self.sector()?);
        self.append(&directory)?;
        self.append(&marker(Marker::Footer, 1))?;
        self.append(&header(self.capacity(), place))?;
        self.append(&marker(Marker::EndOfStream, 0))
    }
}
