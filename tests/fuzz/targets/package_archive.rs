//! Fuzzes the tar archive of a mirror: every member is in the file.
#![no_main]

use build_image::fuzzing::archive;
use build_image_fuzz::{checksum, sparse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(path) = sparse::write(input, "x.tar", checksum::tar_headers) else { return };
    let length = path.metadata().unwrap().len();
    for (_, size, begin) in archive(&path).into_iter().flatten() {
        assert!(size <= length, "{size} of {length} bytes");
        assert_eq!(begin.len() as u64, size.min(1 << 10));
    }
});
