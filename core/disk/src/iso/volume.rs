//! Parses the volume descriptors in sector 16 and the following ones. Source: ECMA-119 section 8; Joliet for
//! the escapes.

use crate::error::{Error, Kind};
use crate::field::{le16, le32};
use crate::format::Image;

pub(super) const SECTOR: u64 = 2048;
/// Maximum number of descriptors, more than any real image has.
const MAX_DESCRIPTORS: u64 = 64;

/// The root of a tree. Offsets and lengths are bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Root {
    pub(super) offset: u64,
    pub(super) len: u64,
}

#[derive(Debug)]
pub(super) struct Volume {
    pub(super) label: String,
    pub(super) block: u64,
    pub(super) root: Root,
    pub(super) joliet: Option<Root>,
}

impl Volume {
    pub(super) fn read(image: &Image) -> Result<Self, Error> {
        let (mut primary, mut joliet) = (None, None);
        for number in 0..MAX_DESCRIPTORS {
            let at = (16 + number) * SECTOR;
            if !image.holds(at, SECTOR) {
                return Err(if primary.is_some() {
                    image.truncated("the list of volume descriptors", at + SECTOR)
                } else {
                    not_an_iso(image)
                });
            }
            let raw = image.head::<2048>(at)?;
            if raw[1..6] != *b"CD001" {
                return Err(not_an_iso(image));
            }
            match raw[0] {
                1 if primary.is_none() => primary = Some(read_primary(image, &raw, at)?),
                2 if joliet.is_none() && is_joliet(&raw) => joliet = Some(root(image, &raw, at)?),
                255 => break,
                _ => {}
            }
        }
        let (label, block, root) = primary.ok_or_else(|| not_an_iso(image))?;
        Ok(Self { label, block, root, joliet })
    }
}

fn not_an_iso(image: &Image) -> Error {
    Error::new(Kind::Malformed, "there is no ISO 9660 volume in").at(&image.path).with_hint(
        "name the installer's .iso file; a download page saved by mistake looks like this too",
    )
}

fn read_primary(image: &Image, raw: &[u8; 2048], at: u64) -> Result<(String, u64, Root), Error> {
    let root = root(image, raw, at)?;
    let block = block_size(image, raw, at)?;
    let len = u64::from(le32(raw, 80)) * block;
    if len > image.len {
        return Err(image.truncated("the ISO's own size", len));
    }
    let label = String::from_utf8_lossy(&raw[40..72]).trim_end_matches([' ', '\0']).to_owned();
    Ok((label, block, root))
}

fn block_size(image: &Image, raw: &[u8; 2048], at: u64) -> Result<u64, Error> {
    let block = le16(raw, 128);
    if matches!(block, 512 | 1024 | 2048) {
        Ok(u64::from(block))
    } else {
        Err(image.malformed(&format!("impossible ISO block size {block}")).at_offset(at))
    }
}

fn root(image: &Image, raw: &[u8; 2048], at: u64) -> Result<Root, Error> {
    let block = block_size(image, raw, at)?;
    let record = &raw[156..190];
    let extent = u64::from(le32(record, 2)) + u64::from(record[1]);
    Ok(Root { offset: extent * block, len: u64::from(le32(record, 10)) })
}

/// Returns whether a supplementary descriptor has one of the three escape sequences of Joliet for UCS-2.
fn is_joliet(raw: &[u8; 2048]) -> bool {
    [b"%/@", b"%/C", b"%/E"].iter().any(|escape| raw[88..91] == **escape)
}
