//! A qcow2 image with deflated clusters.

use std::path::Path;

use super::{Control, DigestKinds, Growing, Level};
use crate::error::{Error, Kind};
use crate::format::GuestReader;
use crate::view::{Allocation, CLUSTER, Qcow2Version, refuse_half_sectors};

/// A disk about to be written as a qcow2 image with deflated clusters.
#[derive(Debug)]
pub struct PackedQcow2 {
    disk: GuestReader,
    map: Allocation,
    version: Qcow2Version,
    level: Level,
}

impl PackedQcow2 {
    /// Finds out which clusters hold data. Refuses a disk whose size is not a multiple of 512.
    pub fn of(disk: GuestReader) -> Result<Self, Error> {
        refuse_half_sectors(&disk)?;
        let map = Allocation::scan(&disk)?;
        Ok(Self { disk, map, version: Qcow2Version::default(), level: Level::default() })
    }

    /// Chooses the version of the image; without this it is version 3.
    #[must_use]
    pub fn with_version(mut self, version: Qcow2Version) -> Self {
        self.version = version;
        self
    }

    /// Chooses how hard to compress.
    #[must_use]
    pub fn with_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Bytes of the disk which hold data, in whole clusters.
    pub fn data_bytes(&self) -> u64 {
        self.map.allocated() * CLUSTER
    }

    /// Starts writing the image to `dest`. Its header and tables are the late head
    /// ([`Growing::late_head`]); digests cost a second reading, because they start with it.
    pub fn write(
        self,
        dest: &Path,
        digests: DigestKinds,
        control: &Control,
    ) -> Result<Growing, Error> {
        let _ = (self.version, self.level, self.disk, digests, control);
        Err(Error::new(Kind::Unsupported, "deflated qcow2 cannot be written yet:").at(dest))
    }
}
