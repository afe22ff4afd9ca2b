//! Fuzzes VHDX, whose checksums are corrected for every other input, and VDI.
#![no_main]

use build_image_fuzz::{checksum, sparse, walk};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let repair = |pieces: &mut checksum::Pieces| {
        if input.len() % 2 == 0 {
            checksum::vhdx(pieces);
        }
    };
    if let Some(path) = sparse::write(input, "x.vhdx", repair) {
        walk::image(&path);
    }
});
