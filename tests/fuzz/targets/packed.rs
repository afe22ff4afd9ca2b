//! Fuzzes gzip, xz and zstd files: they unpack to a file of the reported length, or return an error.
#![no_main]

use std::ops::ControlFlow;

use build_image_disk::packed;
use build_image_fuzz::sparse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let path = sparse::write_whole(input, "x");
    let mut seen = 0;
    let unpacked = packed::unpack(&path, sparse::directory(), &mut |piece| {
        seen += piece.len();
        ControlFlow::Continue(())
    });
    assert!(seen <= input.len(), "every byte once");
    if let Ok(unpacked) = unpacked {
        assert_eq!(seen, input.len(), "to the last byte");
        assert_eq!(unpacked.file.metadata().unwrap().len(), unpacked.len);
    }
});
