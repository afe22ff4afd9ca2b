//! Reads the guest content of a VMDK: one sparse extent, or the concatenated extents of a descriptor.

use std::ffi::OsStr;
use std::path::Path;

use rustix::process::{Resource, getrlimit, setrlimit};

use super::descriptor::{Descriptor, Extent as Described};
use super::grain;
use super::header::{Header, MAGIC};
use super::sparse::Sparse;
use crate::error::{Error, Kind};
use crate::field::index;
use crate::format::content::Content;
use crate::format::image::Image;
use crate::format::raw::hole_or_data;
use crate::format::{Extent, Format, Probe};

/// Maximum size of a piece in which flat extents are read, in bytes.
const FLAT_PIECE: u64 = 1 << 20;
/// Maximum number of extents: 16 TiB in files of 2 GiB. Each of them is an open file.
const MAX_EXTENTS: usize = 8192;
/// Open files that a process may usually have beside the extents of a disk.
const USUAL_FILES: u64 = 512;

#[derive(Debug)]
struct Guest {
    parts: Vec<Part>,
    virtual_size: u64,
    piece: u64,
}

/// A range of the disk, in bytes.
#[derive(Debug)]
struct Part {
    start: u64,
    len: u64,
    /// The file; `None` if it is the image itself.
    file: Option<Image>,
    stored: Stored,
}

#[derive(Debug)]
enum Stored {
    Zero,
    Flat(u64),
    Sparse(Box<Sparse>),
}

/// Checks headers, descriptor, tables, and grains.
pub(in crate::format) fn probe(image: &Image) -> Result<Probe, Error> {
    let descriptor = descriptor(image)?;
    let mut probe = Probe::new(Format::Vmdk, image, 0);
    probe.variant = descriptor.create_type;
    probe.backing_file.clone_from(&descriptor.parent);
    if probe.backing_file.is_some() && image.head::<4>(0)? != *MAGIC {
        probe.virtual_size =
            descriptor.extents.iter().fold(0, |sum: u64, (len, _)| sum.saturating_add(*len));
        return Ok(probe);
    }
    let guest = Guest::new(image, &descriptor)?;
    for part in &guest.parts {
        let file = part.file.as_ref().unwrap_or(image);
        if let Stored::Sparse(sparse) = &part.stored {
            probe.compressed |= grain::check(sparse, file)?;
            probe.dirty |= sparse.header.dirty;
            probe.cluster_size = Some(sparse.header.grain);
        }
    }
    probe.virtual_size = guest.virtual_size;
    probe.sector_aligned = true;
    Ok(probe)
}

/// Opens an image that [`probe`] accepted.
pub(in crate::format) fn open(image: &Image) -> Result<Box<dyn Content>, Error> {
    let descriptor = descriptor(image)?;
    if descriptor.parent.is_some() {
        return Err(image
            .unsupported("only the difference to a parent disk is stored")
            .with_hint("merge it with its parent first, or export the machine as OVF"));
    }
    Ok(Box::new(Guest::new(image, &descriptor)?))
}

fn descriptor(image: &Image) -> Result<Descriptor, Error> {
    if image.head::<4>(0)? != *MAGIC {
        return Descriptor::of_file(image);
    }
    let found = match Header::read(image)?.descriptor {
        Some((at, len)) => Descriptor::embedded(image, at, len)?,
        None => None,
    };
    found.ok_or_else(|| {
        image
            .unsupported("one extent of a disk in several files is stored")
            .with_hint("give the small .vmdk file which describes the whole disk")
    })
}

impl Guest {
    fn new(image: &Image, descriptor: &Descriptor) -> Result<Self, Error> {
        if image.head::<4>(0)? == *MAGIC {
            let sparse = Box::new(Sparse::open(image)?);
            let (len, piece) = (sparse.header.capacity, sparse.header.grain);
            let part = Part { start: 0, len, file: None, stored: Stored::Sparse(sparse) };
            return Ok(Self { parts: vec![part], virtual_size: len, piece });
        }
        if descriptor.extents.is_empty() || descriptor.extents.len() > MAX_EXTENTS {
            let count = descriptor.extents.len();
            return Err(image.malformed(&format!("a VMDK descriptor with {count} extents")));
        }
        allow_files(descriptor.extents.len() as u64);
        let mut guest = Self { parts: Vec::new(), virtual_size: 0, piece: FLAT_PIECE };
        for (len, extent) in &descriptor.extents {
            if *len == 0 {
                return Err(image.malformed("an empty VMDK extent"));
            }
            let part = Part::open(image, guest.virtual_size, *len, extent)?;
            if let Stored::Sparse(sparse) = &part.stored {
                guest.piece = guest.piece.min(sparse.header.grain);
            }
            guest.virtual_size = part
                .start
                .checked_add(*len)
                .filter(|size| i64::try_from(*size).is_ok())
                .ok_or_else(|| image.malformed("the VMDK extents are absurdly large"))?;
            guest.parts.push(part);
        }
        // Reads are split at multiples of the piece size, so no extent may end inside a piece.
        let starts = guest.parts.iter().skip(1).map(|part| part.start);
        let aligned =
            starts.fold(u64::MAX, |bits, start| bits.min(1_u64 << start.trailing_zeros().min(63)));
        guest.piece = guest.piece.min(aligned);
        Ok(guest)
    }

    /// Returns the part that contains offset `offset`, and the offset in the part.
    fn part(&self, offset: u64) -> (&Part, u64) {
        let at = self.parts.partition_point(|part| part.start <= offset) - 1;
        (&self.parts[at], offset - self.parts[at].start)
    }
}

impl Part {
    fn open(image: &Image, start: u64, len: u64, extent: &Described) -> Result<Self, Error> {
        let (file, stored) = match extent {
            Described::Zero => (None, Stored::Zero),
            Described::Flat { file, offset } => {
                let file = beside(image, file)?;
                if !file.holds(*offset, len) {
                    let end = offset.saturating_add(len);
                    return Err(file.truncated("the VMDK descriptor", end));
                }
                (Some(file), Stored::Flat(*offset))
            }
            Described::Sparse { file } => {
                let file = beside(image, file)?;
                let sparse = Sparse::open(&file)?;
                if sparse.header.capacity < len {
                    let has = sparse.header.capacity;
                    let message = format!("{has} bytes where the VMDK descriptor wants {len}");
                    return Err(file.malformed(&message));
                }
                (Some(file), Stored::Sparse(Box::new(sparse)))
            }
        };
        Ok(Self { start, len, file, stored })
    }
}

/// Raises the limit on open files if a disk has very many; with a low hard limit, opening fails with the reason.
fn allow_files(count: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    // The disk is opened twice at the same time: once to check it, once to read it.
    let needed = 2 * count + USUAL_FILES;
    if limit.current.is_some_and(|current| current < needed) {
        limit.current = Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed)));
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Opens an extent in the descriptor's directory. A symbolic link to another directory is refused: otherwise
/// the author of the image could choose a file of the host that becomes part of the disk.
fn beside(image: &Image, name: &OsStr) -> Result<Image, Error> {
    if !image.has_directory {
        let message = "the disk has several files, and only its descriptor was read from";
        return Err(Error::new(Kind::Unsupported, message)
            .at(&image.path)
            .with_hint("give the descriptor as a file, with the extents beside it"));
    }
    let directory = match image.path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let path = directory.join(name);
    let opened = image.open_other(&path).map_err(|error| {
        if error.kind() == Kind::NotFound {
            error.with_hint("an extent of the VMDK is missing: put it beside its descriptor")
        } else {
            error
        }
    })?;
    let real =
        |path: &Path| path.canonicalize().map_err(|source| Error::io("cannot open", path, source));
    let extent = real(&path)?;
    if extent.parent() != Some(real(directory)?.as_path()) {
        let message = "the extent is a link to a file outside of the descriptor's directory:";
        return Err(Error::new(Kind::Unsupported, message)
            .at(&path)
            .with_hint("put the extent itself beside its descriptor"));
    }
    // The open file is checked too, so that changing the link meanwhile has no effect.
    opened.stamp.still(&extent)?;
    Ok(opened)
}

impl Content for Guest {
    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    fn piece(&self) -> u64 {
        self.piece
    }

    fn extent(&self, image: &Image, offset: u64) -> Result<Extent, Error> {
        let (part, inside) = self.part(offset);
        let file = part.file.as_ref().unwrap_or(image);
        let left = part.len - inside;
        let found = match &part.stored {
            Stored::Zero => Extent { len: left, zero: true },
            Stored::Flat(at) => hole_or_data(file, at + inside)?,
            Stored::Sparse(sparse) => sparse.extent(file, inside)?,
        };
        Ok(Extent { len: found.len.min(left), ..found })
    }

    fn read(&self, image: &Image, buf: &mut [u8], offset: u64) -> Result<(), Error> {
        let (part, inside) = self.part(offset);
        let file = part.file.as_ref().unwrap_or(image);
        match &part.stored {
            Stored::Zero => buf.fill(0),
            Stored::Flat(at) => file.read(buf, at + inside)?,
            Stored::Sparse(sparse) => {
                let grain = sparse.header.grain;
                let mut done = 0;
                // The grains of a later extent need not be aligned to the piece size.
                while done < buf.len() {
                    let at = inside + done as u64;
                    let len = index((grain - at % grain).min((buf.len() - done) as u64));
                    sparse.read(file, &mut buf[done..done + len], at)?;
                    done += len;
                }
            }
        }
        Ok(())
    }

    fn other_files(&self) -> Vec<&Image> {
        self.parts.iter().filter_map(|part| part.file.as_ref()).collect()
    }
}
