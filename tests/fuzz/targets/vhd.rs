//! Fuzzes VHD images: every table is checked, then the disk is read.
#![no_main]

use build_image_fuzz::{sparse, walk};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some(path) = sparse::write(input, "x.vhd", |_| ()) {
        walk::image(&path);
    }
});
