//! Reads the block table and the guest content of a VHDX. Source: [MS-VHDX] 2.5 "BAT" and 2.4 "Blocks".

use super::header::{self, MIB, Regions};
use super::metadata::Metadata;
use crate::error::Error;
use crate::field::{index, le64};
use crate::format::content::Content;
use crate::format::image::Image;
use crate::format::{Extent, Format, Probe};

const STATE: u64 = 7;
const RESERVED: u64 = 0xf_fff8;
/// Block states that read as zeros: not present, undefined, zero, and unmapped.
const ZEROS: std::ops::RangeInclusive<u64> = 0..=3;
const FULLY_PRESENT: u64 = 6;
/// Maximum number of blocks. The block table is kept in memory: at most 64 MiB, for 16 TiB of disk with the
/// smallest blocks.
const MAX_BLOCKS: u64 = 16 << 20;
/// Number of entries of the block table that are read at once.
const PIECE: u64 = 8192;

/// Checks headers, regions, metadata, and every block.
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

/// Opens an image that [`probe`] accepted.
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

/// Returns the offset of each block in MiB; 0 = the block reads as zeros. The table has an entry for a sector
/// bitmap after every chunk of blocks, which only differencing disks use.
fn blocks(image: &Image, regions: &Regions, metadata: Metadata) -> Result<Vec<u32>, Error> {
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
    let mut places = Vec::with_capacity(index(count));
    for first in (0..entries).step_by(index(PIECE)) {
        let mut bytes = vec![0; index(PIECE.min(entries - first) * 8)];
        image.read(&mut bytes, regions.bat.at + first * 8)?;
        for (entry, at) in bytes.chunks_exact(8).zip(first..) {
            // The entry of the sector bitmap follows every chunk of blocks.
            if at % (chunk + 1) != chunk {
                let block = places.len() as u64;
                places.push(checked(image, regions, metadata, block, le64(entry, 0))?);
            }
        }
    }
    let mut sorted: Vec<u32> = places.iter().copied().filter(|place| *place != 0).collect();
    sorted.sort_unstable();
    let shared = |pair: &&[u32]| u64::from(pair[1] - pair[0]) * MIB < metadata.block;
    match sorted.windows(2).find(shared) {
        None => Ok(places),
        Some(pair) => {
            let second = u64::from(pair[1]) * MIB;
            Err(image.malformed("two VHDX blocks share bytes").at_offset(second))
        }
    }
}

/// Returns the offset of a block in MiB after checking that the used part of the block is inside the file.
fn checked(
    image: &Image,
    regions: &Regions,
    metadata: Metadata,
    block: u64,
    entry: u64,
) -> Result<u32, Error> {
    let place = place(regions, metadata, entry)
        .map_err(|why| image.malformed(&format!("VHDX block {block} {why}")))?;
    let used = metadata.block.min(metadata.virtual_size - block * metadata.block);
    // On every existing file system a file has less than 2^32 MiB.
    match u32::try_from(place / MIB) {
        Ok(0) => Ok(0),
        Ok(mib) if image.holds(place, used) => Ok(mib),
        _ => {
            let what = format!("VHDX block {block}");
            Err(image.truncated(&what, place.saturating_add(used)))
        }
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
    blocks: Vec<u32>,
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
            mib => {
                image.read(buf, u64::from(mib) * MIB + offset % self.metadata.block)?;
            }
        }
        Ok(())
    }
}
