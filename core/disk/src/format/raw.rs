//! Describes a file without an image header: a raw disk with what shows that it is one, or another format that must
//! not be mistaken for a raw disk. Source: UEFI 2.10 section 5 (MBR and GPT headers).

use std::io;
use std::path::Path;

use rustix::fs::SeekFrom;

use super::content::Content;
use super::image::Image;
use super::{Extent, Format, Probe};
use crate::error::{Error, Kind};
use crate::signature;

/// Describes a file as a raw disk.
pub(super) fn probe(image: &Image) -> Result<Probe, Error> {
    let mut probe = Probe::new(Format::Raw, image, image.len);
    let head = |at, most| image.part(at, most);
    probe.foreign = signature::foreign(image.len, head)?;
    probe.evidence = match find_table(image)? {
        PartitionTable::Gpt => Some("a GUID partition table"),
        PartitionTable::Mbr => Some("a partition table"),
        // The name of a file system says more than that it begins with a boot sector.
        PartitionTable::SignatureOnly | PartitionTable::None => {
            let content = signature::recognise(head)?.map(|content| content.kind);
            content
                .or((find_table(image)? == PartitionTable::SignatureOnly)
                    .then_some("a boot sector"))
        }
    };
    Ok(probe)
}

/// Opens the content of a raw disk, which is the file itself.
pub(super) fn open(image: &Image) -> Box<dyn Content> {
    Box::new(Raw { len: image.len })
}

#[derive(Debug)]
struct Raw {
    len: u64,
}

impl Content for Raw {
    fn virtual_size(&self) -> u64 {
        self.len
    }

    fn piece(&self) -> u64 {
        u64::MAX
    }

    fn extent(&self, image: &Image, offset: u64) -> Result<Extent, Error> {
        hole_or_data(image, offset)
    }

    fn read(&self, image: &Image, buf: &mut [u8], offset: u64) -> Result<(), Error> {
        image.read(buf, offset)
    }
}

/// Returns the extent at offset `offset` of a file, from the holes that the file system reports.
pub(super) fn hole_or_data(image: &Image, offset: u64) -> Result<Extent, Error> {
    let seek = |from| match rustix::fs::seek(&image.file, from) {
        Ok(at) => Ok(Some(at)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        // Block devices, and file systems that do not know their holes: everything is data.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => Ok(Some(match from {
            SeekFrom::Data(at) => at,
            _ => image.place(image.len),
        })),
        Err(errno) => Err(Error::new(Kind::Io, "cannot look for holes in")
            .at(&image.path)
            .caused_by(io::Error::from(errno))),
    };
    let (start, end) = (image.place(offset), image.place(image.len));
    let extent = match seek(SeekFrom::Data(start))? {
        Some(data) if data <= start => {
            let hole = seek(SeekFrom::Hole(start))?.unwrap_or(end);
            Extent { len: hole.clamp(start + 1, end) - start, zero: false }
        }
        data => Extent { len: data.unwrap_or(end).min(end) - start, zero: true },
    };
    Ok(extent)
}

/// The partition table at the start of a raw disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionTable {
    /// A GUID partition table (512- or 4096-byte sectors).
    Gpt,
    /// A boot record with at least one partition.
    Mbr,
    /// The signature of a boot record without a partition: a boot sector or a bare file system.
    SignatureOnly,
    /// None of the above; firmware cannot boot from it.
    None,
}

/// Detects the partition table at the start of the guest content of a raw file.
pub fn partition_table(path: &Path) -> Result<PartitionTable, Error> {
    find_table(&Image::open(path)?)
}

fn find_table(image: &Image) -> Result<PartitionTable, Error> {
    for sector in [512, 4096] {
        if image.head::<8>(sector)? == *b"EFI PART" {
            return Ok(PartitionTable::Gpt);
        }
    }
    let sector = image.head::<512>(0)?;
    if sector[510..] != [0x55, 0xaa] {
        return Ok(PartitionTable::None);
    }
    // Four entries of 16 bytes; byte 0 is 0x00 or 0x80, byte 4 is the type (0 = unused).
    let entries = &sector[446..510];
    let plausible = entries.chunks(16).all(|entry| entry[0] & 0x7f == 0);
    let used = entries.chunks(16).any(|entry| entry[4] != 0);
    Ok(if plausible && used { PartitionTable::Mbr } else { PartitionTable::SignatureOnly })
}
