//! The disk as the guest sees it, whatever format the file has. Reading only.

use std::io;
use std::path::Path;

use rustix::fs::SeekFrom;

use super::image::Image;
use super::{Format, Probe, probe::probe_image, qcow2, vhd};
use crate::error::{Error, Kind};
use crate::field::index;

/// A stretch of the guest's disk, starting where one asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Length in bytes, never 0.
    pub len: u64,
    /// Whether it is known to read as zeros. `false` promises nothing.
    pub zero: bool,
}

/// Read access to the guest content of a raw, qcow2 or VHD image which has been fully checked.
///
/// Shareable between threads; every read names its place.
#[derive(Debug)]
pub struct GuestReader {
    image: Image,
    probe: Probe,
    guest: Guest,
}

#[derive(Debug)]
enum Guest {
    Raw,
    Qcow2(Box<qcow2::Guest>),
    Vhd(vhd::Guest),
}

impl GuestReader {
    /// Probes `path` and opens it; refuses what is not complete in itself (backing file, encryption).
    pub fn open(path: &Path) -> Result<Self, Error> {
        let image = Image::open(path)?;
        let probe = probe_image(&image)?;
        let guest = match probe.format {
            Format::Raw => Guest::Raw,
            Format::Qcow2 => Guest::Qcow2(Box::new(qcow2::Guest::open(&image)?)),
            Format::Vhd => Guest::Vhd(vhd::Guest::open(&image)?),
        };
        Ok(Self { image, probe, guest })
    }

    /// Opens `path` as a raw disk, whatever its first bytes say: a disk made here is raw even when
    /// its guest wrote the signature of an image format into its first sector.
    pub fn open_raw(path: &Path) -> Result<Self, Error> {
        let image = Image::open(path)?;
        let probe = Probe::new(Format::Raw, &image, image.len);
        Ok(Self { image, probe, guest: Guest::Raw })
    }

    /// What [`super::probe`] says of the file.
    pub fn probe(&self) -> &Probe {
        &self.probe
    }

    /// The file this reader was opened with.
    pub fn path(&self) -> &Path {
        &self.image.path
    }

    /// The size of the guest's disk in bytes.
    pub fn virtual_size(&self) -> u64 {
        match &self.guest {
            Guest::Raw => self.image.len,
            Guest::Qcow2(guest) => guest.virtual_size(),
            Guest::Vhd(guest) => guest.virtual_size(),
        }
    }

    /// Fills `buf` from guest byte `offset`; fewer bytes only at the end of the disk.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        let left = self.virtual_size().saturating_sub(offset).min(buf.len() as u64);
        let whole = index(left);
        let piece = match &self.guest {
            Guest::Raw => u64::MAX,
            Guest::Qcow2(guest) => guest.cluster_size(),
            Guest::Vhd(guest) => guest.block_size(),
        };
        let mut done = 0;
        while done < whole {
            let at = offset + done as u64;
            let len = index((piece - at % piece).min((whole - done) as u64));
            let part = &mut buf[done..done + len];
            match &self.guest {
                Guest::Raw => self.image.read(part, at)?,
                Guest::Qcow2(guest) => guest.read(&self.image, part, at)?,
                Guest::Vhd(guest) => guest.read(&self.image, part, at)?,
            }
            done += len;
        }
        Ok(whole)
    }

    /// What lies at guest byte `offset`: holes and unallocated clusters are known without reading.
    /// `None` at the end of the disk.
    pub fn extent_at(&self, offset: u64) -> Result<Option<Extent>, Error> {
        if offset >= self.virtual_size() {
            return Ok(None);
        }
        Ok(Some(match &self.guest {
            Guest::Raw => raw_extent(&self.image, offset)?,
            Guest::Qcow2(guest) => guest.extent(&self.image, offset)?,
            Guest::Vhd(guest) => guest.extent(offset),
        }))
    }
}

fn raw_extent(image: &Image, offset: u64) -> Result<Extent, Error> {
    let seek = |from| match rustix::fs::seek(&image.file, from) {
        Ok(at) => Ok(Some(at)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(errno) => Err(Error::new(Kind::Io, "cannot look for holes in")
            .at(&image.path)
            .caused_by(io::Error::from(errno))),
    };
    let left = image.len - offset;
    let extent = match seek(SeekFrom::Data(offset))? {
        None => Extent { len: left, zero: true },
        Some(data) if data > offset => Extent { len: (data - offset).min(left), zero: true },
        Some(_) => {
            let end = seek(SeekFrom::Hole(offset))?.unwrap_or(image.len);
            Extent { len: end.clamp(offset + 1, image.len) - offset, zero: false }
        }
    };
    Ok(extent)
}
