//! Checks and reads the guest content of fixed and dynamic VHD images.
//! Source: VHD specification, "Block Allocation Table and Data Blocks". The sector bitmap of a block is
//! skipped: a sector of a dynamic disk that was never written contains zeros in any case.

use std::collections::HashSet;

use super::footer::{DynamicHeader, Footer, LEN, Variant};
use crate::error::Error;
use crate::field::{be32, index};
use crate::format::content::Content;
use crate::format::image::Image;
use crate::format::raw::hole_or_data;
use crate::format::{Extent, Format, Probe};

const UNUSED: u32 = u32::MAX;

/// Checks the footer, the header, and the block table.
pub(in crate::format) fn probe(image: &Image) -> Result<Probe, Error> {
    let footer = Footer::read(image)?;
    let mut probe = Probe::new(Format::Vhd, image, footer.virtual_size);
    if footer.variant == Variant::Fixed {
        check_fixed(image, &footer)?;
        probe.variant = Some("fixed");
        return Ok(probe);
    }
    let header = DynamicHeader::read(image, &footer)?;
    check_table(image, &header, &read_table(image, &header)?)?;
    probe.cluster_size = Some(header.block_size);
    probe.variant = Some("dynamic");
    if footer.variant == Variant::Differencing {
        probe.variant = Some("differencing");
        probe.backing_file = Some(header.parent);
    }
    Ok(probe)
}

fn check_fixed(image: &Image, footer: &Footer) -> Result<(), Error> {
    let (there, want) = (image.len - LEN, footer.virtual_size);
    if there < want {
        return Err(image.truncated("the fixed VHD's footer", want));
    }
    if there > want {
        let message = format!("{there} bytes precede the footer of a fixed VHD of {want} bytes");
        return Err(image.malformed(&message));
    }
    Ok(())
}

fn read_table(image: &Image, header: &DynamicHeader) -> Result<Vec<u32>, Error> {
    let mut bytes = vec![0; index(header.entries * 4)];
    image.read(&mut bytes, header.table_offset)?;
    Ok(bytes.chunks_exact(4).map(|entry| be32(entry, 0)).collect())
}

fn check_table(image: &Image, header: &DynamicHeader, table: &[u32]) -> Result<(), Error> {
    let block_len = header.bitmap_len() + header.block_size;
    let mut seen = HashSet::new();
    for (at, sector) in table.iter().enumerate().filter(|(_, sector)| **sector != UNUSED) {
        let offset = u64::from(*sector) * 512;
        // The footer follows the last block.
        if !image.holds(offset, block_len + LEN) {
            let what = format!("VHD block {at}");
            return Err(image.truncated(&what, offset + block_len));
        }
        if !seen.insert(*sector) {
            return Err(image.malformed(&format!("VHD block {at} shares its place with another")));
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Guest {
    virtual_size: u64,
    dynamic: Option<(DynamicHeader, Vec<u32>)>,
}

/// Opens an image that [`probe`] accepted.
pub(in crate::format) fn open(image: &Image) -> Result<Box<dyn Content>, Error> {
    let footer = Footer::read(image)?;
    let dynamic = match footer.variant {
        Variant::Fixed => None,
        Variant::Dynamic => {
            let header = DynamicHeader::read(image, &footer)?;
            let table = read_table(image, &header)?;
            Some((header, table))
        }
        Variant::Differencing => {
            return Err(image
                .unsupported("only the difference to a parent disk is stored")
                .with_hint("merge it with its parent first"));
        }
    };
    Ok(Box::new(Guest { virtual_size: footer.virtual_size, dynamic }))
}

impl Guest {
    /// Returns the offset in the file of guest offset `offset`.
    fn place(&self, offset: u64) -> Option<u64> {
        let Some((header, table)) = &self.dynamic else { return Some(offset) };
        let sector = table[index(offset / header.block_size)];
        let inside = offset % header.block_size;
        (sector != UNUSED).then(|| u64::from(sector) * 512 + header.bitmap_len() + inside)
    }
}

impl Content for Guest {
    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    fn piece(&self) -> u64 {
        self.dynamic.as_ref().map_or(1 << 30, |(header, _)| header.block_size)
    }

    fn extent(&self, image: &Image, offset: u64) -> Result<Extent, Error> {
        let left = self.virtual_size - offset;
        if self.dynamic.is_none() {
            let found = hole_or_data(image, offset)?;
            return Ok(Extent { len: found.len.min(left), ..found });
        }
        let len = self.piece() - offset % self.piece();
        Ok(Extent { len: len.min(left), zero: self.place(offset).is_none() })
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
