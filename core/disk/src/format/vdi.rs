//! Reads VDI, dynamic and fixed. Source: VirtualBox, include/VBox/vd.h and Storage/VDICore.h (the layout,
//! version 1.1). Differencing disks are reported by the probe and refused by the reader.

use super::content::Content;
use super::image::Image;
use super::{Extent, Format, Probe};
use crate::error::Error;
use crate::field::{index, le32, le64};

const MAGIC: [u8; 4] = [0x7f, 0x10, 0xda, 0xbe];
const HEADER_LEN: u64 = 0x200;
const VERSION: u32 = 0x0001_0001;
/// A block that was never written, and a block that the guest discarded.
const UNUSED: u32 = u32::MAX;
const DISCARDED: u32 = u32::MAX - 1;
/// Maximum number of blocks. The block map is kept in memory: at most 64 MiB, for 16 TiB of disk with the
/// usual block size.
const MAX_BLOCKS: u64 = 16 << 20;

/// Returns whether the file has the signature of a VDI.
pub(super) fn claims(image: &Image) -> Result<bool, Error> {
    Ok(image.head::<4>(0x40)? == MAGIC)
}

/// Bytes of the block map that are read at once.
const PIECE: usize = 64 << 10;

/// The header fields that are required for reading. Sizes and offsets are bytes.
#[derive(Debug)]
struct Header {
    variant: &'static str,
    map: u64,
    data: u64,
    virtual_size: u64,
    block: u64,
    blocks: u64,
}

impl Header {
    fn read(image: &Image) -> Result<Self, Error> {
        if !image.holds(0, HEADER_LEN) {
            return Err(image.truncated("the VDI header", HEADER_LEN));
        }
        let raw = image.head::<512>(0)?;
        let malformed = |message: String| Err(image.malformed(&message));
        let version = le32(&raw, 0x44);
        if version != VERSION {
            return Err(image.unsupported(&format!("VDI version {version:#x}")));
        }
        let variant = match le32(&raw, 0x4c) {
            1 => "dynamic",
            2 => "fixed",
            3 | 4 => "differencing",
            other => return malformed(format!("unknown VDI type {other}")),
        };
        let header = Self {
            variant,
            map: u64::from(le32(&raw, 0x154)),
            data: u64::from(le32(&raw, 0x158)),
            virtual_size: le64(&raw, 0x170),
            block: u64::from(le32(&raw, 0x178)),
            blocks: u64::from(le32(&raw, 0x180)),
        };
        if !header.block.is_power_of_two() || !(4096..=256 << 20).contains(&header.block) {
            return malformed(format!("impossible VDI block size {}", header.block));
        }
        if le32(&raw, 0x17c) != 0 {
            return Err(image.unsupported("VDI blocks carry extra bytes"));
        }
        let (size, blocks) = (header.virtual_size, header.blocks);
        if blocks > MAX_BLOCKS || size.div_ceil(header.block) > blocks {
            return malformed(format!("{blocks} VDI blocks do not fit a disk of {size} bytes"));
        }
        if !size.is_multiple_of(512) {
            return malformed(format!("impossible VDI disk size {size}"));
        }
        if !image.holds(header.map, blocks * 4) {
            return Err(image.truncated("the VDI header", header.map + blocks * 4));
        }
        Ok(header)
    }

    fn map(&self, image: &Image) -> Result<Vec<u32>, Error> {
        let mut map = Vec::with_capacity(index(self.blocks));
        let mut bytes = vec![0; PIECE];
        while map.len() as u64 != self.blocks {
            let left = self.blocks - map.len() as u64;
            let piece = &mut bytes[..PIECE.min(index(left * 4))];
            image.read(piece, self.map + map.len() as u64 * 4)?;
            map.extend(piece.chunks_exact(4).map(|entry| le32(entry, 0)));
        }
        Ok(map)
    }

    fn place(&self, entry: u32) -> Option<u64> {
        let stored = entry != UNUSED && entry != DISCARDED;
        stored.then(|| self.data + u64::from(entry) * self.block)
    }
}

/// Checks the header and the block map.
pub(super) fn probe(image: &Image) -> Result<Probe, Error> {
    let header = Header::read(image)?;
    let mut map = header.map(image)?;
    for (at, entry) in map.iter().enumerate() {
        let Some(place) = header.place(*entry) else { continue };
        // Only the part of the last block inside the disk must exist.
        let left = header.virtual_size.saturating_sub(at as u64 * header.block);
        let what = || format!("VDI block {at}");
        if !image.holds(place, left.min(header.block)) {
            return Err(image.truncated(&what(), place + left.min(header.block)));
        }
    }
    map.sort_unstable();
    let shared = |pair: &&[u32]| pair[0] == pair[1] && header.place(pair[0]).is_some();
    if let Some(pair) = map.windows(2).find(shared) {
        let message = format!("two VDI blocks share place {}", pair[0]);
        return Err(image.malformed(&message));
    }
    let mut probe = Probe::new(Format::Vdi, image, header.virtual_size);
    probe.variant = Some(header.variant);
    probe.cluster_size = Some(header.block);
    if header.variant == "differencing" {
        probe.backing_file = Some("unknown".to_owned());
    }
    Ok(probe)
}

/// Opens an image that [`probe`] accepted.
pub(super) fn open(image: &Image) -> Result<Box<dyn Content>, Error> {
    let header = Header::read(image)?;
    if header.variant == "differencing" {
        return Err(image
            .unsupported("only the difference to a parent disk is stored")
            .with_hint("merge it first: `VBoxManage clonemedium` writes a complete disk"));
    }
    Ok(Box::new(Guest { map: header.map(image)?, header }))
}

#[derive(Debug)]
struct Guest {
    /// The entry of each block in the block map.
    map: Vec<u32>,
    header: Header,
}

impl Guest {
    fn place(&self, offset: u64) -> Option<u64> {
        let place = self.header.place(self.map[index(offset / self.header.block)])?;
        Some(place + offset % self.header.block)
    }
}

impl Content for Guest {
    fn virtual_size(&self) -> u64 {
        self.header.virtual_size
    }

    fn piece(&self) -> u64 {
        self.header.block
    }

    fn extent(&self, _image: &Image, offset: u64) -> Result<Extent, Error> {
        let len = self.header.block - offset % self.header.block;
        let zero = self.place(offset).is_none();
        Ok(Extent { len: len.min(self.header.virtual_size - offset), zero })
    }

    fn read(&self, image: &Image, buf: &mut [u8], offset: u64) -> Result<(), Error> {
        match self.place(offset) {
            Some(place) => image.read(buf, place),
            None => {
                buf.fill(0);
                Ok(())
            }
        }
    }
}
