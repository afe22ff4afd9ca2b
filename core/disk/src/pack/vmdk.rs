//! A streamOptimized VMDK.

use std::path::Path;

use super::{Control, DigestKinds, Growing, Level};
use crate::error::{Error, Kind};
use crate::format::GuestReader;
use crate::view::{Allocation, CLUSTER, Stamp};

/// A disk about to be written as a streamOptimized VMDK: deflated grains of 64 KiB, read from front
/// to back, which is what VMware's import and cloud importers take.
#[derive(Debug)]
pub struct StreamVmdk {
    disk: GuestReader,
    map: Allocation,
    level: Level,
    name: String,
    stamp: Stamp,
}

impl StreamVmdk {
    /// Finds out which grains hold data. `name` is the file name written into the descriptor;
    /// identifiers come from `stamp`.
    pub fn of(disk: GuestReader, name: impl Into<String>, stamp: &Stamp) -> Result<Self, Error> {
        let map = Allocation::scan(&disk)?;
        let (name, stamp) = (name.into(), stamp.clone());
        Ok(Self { disk, map, level: Level::default(), name, stamp })
    }

    /// Chooses how hard to compress.
    #[must_use]
    pub fn with_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// The size of the disk in bytes: the guest's, rounded up to whole grains of 64 KiB.
    pub fn virtual_size(&self) -> u64 {
        self.map.clusters() * CLUSTER
    }

    /// Bytes of the disk which hold data, in whole grains.
    pub fn data_bytes(&self) -> u64 {
        self.map.allocated() * CLUSTER
    }

    /// Starts writing the image to `dest`; it becomes final in order.
    pub fn write(
        self,
        dest: &Path,
        digests: DigestKinds,
        control: &Control,
    ) -> Result<Growing, Error> {
        let _ = (self.disk, self.level, self.name, self.stamp, digests, control);
        Err(Error::new(Kind::Unsupported, "streamOptimized VMDK cannot be written yet:").at(dest))
    }
}
