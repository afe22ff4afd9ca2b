//! Fuzzes the index of a publisher, and what is chosen from it.
#![no_main]

use build_image::fuzzing::index;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // It asserts that no location leads out of the directory of the index.
    let _ = index(input);
});
