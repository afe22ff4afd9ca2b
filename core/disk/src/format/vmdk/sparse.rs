//! Reads a sparse extent: directory, tables, grains. Source: VMware, "Virtual Disk Format 5.0", "Grain
//! Directory and Grain Tables".

use std::sync::Arc;

use super::grain::Packed;
use super::header::{Header, SECTOR};
use crate::error::Error;
use crate::field::{index, le32};
use crate::format::Extent;
use crate::format::image::Image;
use crate::format::recent::Recent;
use crate::format::unpack::{Packing, unpack};

/// Number of cached grain tables; each covers 32 MiB of disk.
const TABLES: usize = 16;
/// Number of cached decompressed grains, each at most 16 MiB and usually 64 KiB.
const GRAINS: usize = 4;

/// A grain as its grain table describes it.
pub(super) enum Grain {
    Unallocated,
    /// Stored from this offset of the file.
    Stored(u64),
}

#[derive(Debug)]
pub(super) struct Sparse {
    pub(super) header: Header,
    /// The first sector of each grain table; 0 = none.
    pub(super) directory: Vec<u32>,
    tables: Recent<Vec<u32>>,
    unpacked: Recent<Vec<u8>>,
}

impl Sparse {
    pub(super) fn open(image: &Image) -> Result<Self, Error> {
        let header = Header::read(image)?;
        let mut bytes = vec![0; index(header.directory_entries() * 4)];
        image.read(&mut bytes, header.directory)?;
        let directory = bytes.chunks_exact(4).map(|entry| le32(entry, 0)).collect();
        let (tables, unpacked) = (Recent::new(TABLES), Recent::new(GRAINS));
        Ok(Self { header, directory, tables, unpacked })
    }

    pub(super) fn grain(&self, entry: u32) -> Grain {
        // Entry 1 means zeros if the header declares it; otherwise it would refer to a sector of the header
        // area.
        if entry == 0 || entry == 1 && self.header.zero_grains {
            Grain::Unallocated
        } else {
            Grain::Stored(u64::from(entry) * SECTOR)
        }
    }

    /// Returns the grain table of a directory entry that has one.
    pub(super) fn table(&self, image: &Image, at: usize) -> Result<Arc<Vec<u32>>, Error> {
        let place = u64::from(self.directory[at]) * SECTOR;
        self.tables.get(place, || {
            let len = self.header.table_entries * 4;
            if !image.holds(place, len) {
                let what = format!("VMDK grain directory entry {at}");
                return Err(image.truncated(&what, place + len));
            }
            let mut bytes = vec![0; index(len)];
            image.read(&mut bytes, place)?;
            Ok(bytes.chunks_exact(4).map(|entry| le32(entry, 0)).collect())
        })
    }

    fn find(&self, image: &Image, offset: u64) -> Result<Grain, Error> {
        let at = index(offset / self.header.table_span());
        if self.directory[at] == 0 {
            return Ok(Grain::Unallocated);
        }
        let entry = index(offset % self.header.table_span() / self.header.grain);
        Ok(self.grain(self.table(image, at)?[entry]))
    }

    /// Returns the extent at `offset`, up to the end of its grain or of the range without a table.
    pub(super) fn extent(&self, image: &Image, offset: u64) -> Result<Extent, Error> {
        let has_table = self.directory[index(offset / self.header.table_span())] != 0;
        let unit = if has_table { self.header.grain } else { self.header.table_span() };
        let len = (unit - offset % unit).min(self.header.capacity - offset);
        let zero = matches!(self.find(image, offset)?, Grain::Unallocated);
        Ok(Extent { len, zero })
    }

    /// Fills `buf`, which does not cross the end of a grain.
    pub(super) fn read(&self, image: &Image, buf: &mut [u8], offset: u64) -> Result<(), Error> {
        let inside = offset % self.header.grain;
        match self.find(image, offset)? {
            Grain::Unallocated => buf.fill(0),
            Grain::Stored(at) if self.header.compressed => {
                let grain = self.unpacked.get(at, || self.unpack(image, at, offset - inside))?;
                buf.copy_from_slice(&grain[index(inside)..][..buf.len()]);
            }
            Grain::Stored(at) => image.read(buf, at + inside)?,
        }
        Ok(())
    }

    fn unpack(&self, image: &Image, at: u64, guest: u64) -> Result<Vec<u8>, Error> {
        let packed = Packed::read(image, at, self.header.grain)?;
        let mut bytes = vec![0; index(packed.len)];
        image.read(&mut bytes, packed.at)?;
        let mut grain = vec![0; index(self.header.grain)];
        let inflate_error =
            || image.malformed("a compressed VMDK grain does not inflate").at_offset(at);
        let done = unpack(Packing::Zlib, &bytes, &mut grain)
            .map_err(|cause| inflate_error().caused_by(cause))?;
        // The last grain of a disk may end with the disk.
        let want = self.header.grain.min(self.header.capacity - guest);
        if done as u64 >= want { Ok(grain) } else { Err(inflate_error()) }
    }
}
