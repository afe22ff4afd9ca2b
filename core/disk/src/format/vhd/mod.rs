//! Reads VHD, fixed and dynamic. Source: Microsoft, "Virtual Hard Disk Image Format Specification" (2006).
//! Differencing disks are reported by the probe and refused by the reader.

mod footer;
mod guest;

pub(super) use guest::{open, probe};

use super::image::Image;
use crate::error::Error;

/// Returns whether the file has the signature of a VHD: a footer at its end, or a copy of the footer at its
/// start.
pub(super) fn claims(image: &Image) -> Result<bool, Error> {
    if image.len < footer::LEN {
        return Ok(false);
    }
    let copy = image.head::<8>(0)? == *footer::COOKIE;
    Ok(copy || image.head::<8>(image.len - footer::LEN)? == *footer::COOKIE)
}
