//! Reads VHDX, fixed and dynamic. Source: Microsoft, [MS-VHDX] "Virtual Hard Disk v2 (VHDX) File Format". Not
//! supported on purpose: replaying a log (refused), differencing disks (reported by the probe, refused by the
//! reader).

mod guest;
mod header;
mod metadata;

pub(super) use guest::{open, probe};

use super::image::Image;
use crate::error::Error;

/// Returns whether the file starts with the VHDX signature.
pub(super) fn claims(image: &Image) -> Result<bool, Error> {
    Ok(image.head::<8>(0)? == *b"vhdxfile")
}

/// Converts a GUID from its printed number to its sixteen bytes in a file: the first three groups are stored
/// with the least significant byte first.
const fn guid(printed: u128) -> [u8; 16] {
    let mut bytes = printed.to_be_bytes();
    bytes = [
        bytes[3], bytes[2], bytes[1], bytes[0], bytes[5], bytes[4], bytes[7], bytes[6], bytes[8],
        bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15],
    ];
    bytes
}
