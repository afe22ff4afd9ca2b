//! The block table and the guest content of a VHDX. Source: [MS-VHDX] 2.5 "BAT" and 2.4 "Blocks".

use std::collections::HashSet;

use super::header::{self, MIB, Regions};
use super::metadata::Metadata;
use crate::error::Error;
use crate::field::{index, le64};
use crate::format::content::Content;
use crate::format::image::Image;
use crate::format::{Extent, Format, Probe};

const STATE: u64 = 7;
const RESERVED: u64 = 0xf_fff8;
/// States of a block: not present, undefined, zero and unmapped all read as zeros.
const ZEROS: std::ops::RangeInclusive<u64> = 0..=3;
const FULLY_PRESENT: u64 = 6;
/// The block table is kept in memory: 128 MiB at most, 16 TiB of disk with the smallest blocks.
const MAX_BLOCKS: u64 = 16 << 20;

/// Checks headers, regions, metadata and every block.
pub(in crate::format) fn probe(image: &Image) -> Result<Probe, Error> {
    let regions = header::read(image)?;
    let metadata = Metadata::read(image, regions.metadata)?;
    let mut probe = Probe::new(Format::Vhdx, image, metadata.virtual_size);
    probe.cluster_size = Some(metadata.block);
    probe.variant = Some(if metadata.fixed { "fixed" } else { "dynamic" });
    if metadata.has_parent {
        probe.variant = Some("differencing");
        probe.backing_file = Some("unknown".to_owned());
    } else {
        blocks(image, &regions, metadata)?;
    }
    Ok(probe)
}

/// Opens an image that [`probe`] has accepted.
pub(in crate::format) fn open(image: &Image) -> Result<Box<dyn Content>, Error> {
    let regions = header::read(image)?;
    let metadata = Metadata::read(image, regions.metadata)?;
    if metadata.has_parent {
        return Err(image
            .unsupported("only the difference to a parent disk is stored")
            .with_hint("merge it with its parent first, as with Merge-VHD"));
    }
    Ok(Box::new(Guest { blocks: blocks(image, &regions, metadata)?, metadata }))
}

/// Where each block lies; 0 = it reads as zeros. The table has an entry for a sector bitmap after
/// every chunk of blocks, which only differencing disks use.
fn blocks(image: &Image, regions: &Regions, metadata: Metadata) -> Result<Vec<u64>, Error> {
    let (count, chunk) = (metadata.blocks(), metadata.chunk());
    let entries = count + count.saturating_sub(1) / chunk;
    if count > MAX_BLOCKS {
        return Err(image.unsupported(&format!("{count} VHDX blocks are used")));
    }
    if entries * 8 > regions.bat.len {
        return Err(image
            .malformed(&format!("a VHDX block table with room for less than {entries} entries"))
            .at_offset(regions.bat.at));
    }
    let mut bytes = vec![0; index(entries * 8)];
    image.read(&mut bytes, regions.bat.at)?;
    let mut seen = HashSet::new();
    let mut places = Vec::with_capacity(index(count));
    for block in 0..count {
        let entry = le64(&bytes, index((block + block / chunk) * 8));
        let place = place(regions, metadata, entry)
            .map_err(|why| image.malformed(&format!("VHDX block {block} {why}")))?;
        if place != 0 {
            let used = metadata.block.min(metadata.virtual_size - block * metadata.block);
            if !image.holds(place, used) {
                let what = format!("VHDX block {block}");
                return Err(image.truncated(&what, place.saturating_add(used)));
            }
            if !seen.insert(place) {
                let message = format!("VHDX block {block} shares its place with another");
                return Err(image.malformed(&message));
            }
        }
        places.push(place);
    }
    let mut sorted: Vec<u64> = seen.into_iter().collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] + metadata.block > pair[1]) {
        None => Ok(places),
        Some(pair) => Err(image.malformed("two VHDX blocks share bytes").at_offset(pair[1])),
    }
}

fn place(regions: &Regions, metadata: Metadata, entry: u64) -> Result<u64, &'static str> {
    let (state, place) = (entry & STATE, entry & !(STATE | RESERVED));
    if entry & RESERVED != 0 {
        return Err("sets reserved bits");
    }
    if ZEROS.contains(&state) {
        return Ok(0);
    }
    if state != FULLY_PRESENT {
        return Err("is in a state which only a difference to a parent has");
    }
    if place < MIB {
        return Err("lies in the header");
    }
    let end = place.saturating_add(metadata.block);
    let inside = |region: header::Region| place < region.at + region.len && end > region.at;
    if inside(regions.bat) || inside(regions.metadata) {
        return Err("lies in a table");
    }
    Ok(place)
}

#[derive(Debug)]
struct Guest {
    blocks: Vec<u64>,
    metadata: Metadata,
}

impl Content for Guest {
    fn virtual_size(&self) -> u64 {
        self.metadata.virtual_size
    }

    fn piece(&self) -> u64 {
        self.metadata.block
    }

    fn extent(&self, _image: &Image, offset: u64) -> Result<Extent, Error> {
        let block = self.metadata.block;
        let len = (block - offset % block).min(self.metadata.virtual_size - offset);
        Ok(Extent { len, zero: self.blocks[index(offset / block)] == 0 })
    }

    fn read(&self, image: &Image, buf: &mut [u8], offset: u64) -> Result<(), Error> {
        match self.blocks[index(offset / self.metadata.block)] {
            0 => buf.fill(0),
            place => image.read(buf, place + offset % self.metadata.block)?,
        }
        Ok(())
    }
}
