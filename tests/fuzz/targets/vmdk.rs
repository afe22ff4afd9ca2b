//! Fuzzes VMDK images: sparse extents, streams, and descriptors with files beside them.
#![no_main]

use std::fs::{self, File};
use std::sync::Once;

use build_image_fuzz::{sparse, walk};
use libfuzzer_sys::fuzz_target;

static BESIDE: Once = Once::new();

fuzz_target!(|input: &[u8]| {
    BESIDE.call_once(|| {
        let flat = File::create(sparse::directory().join("flat.vmdk")).unwrap();
        flat.set_len(1 << 20).unwrap();
    });
    // The same bytes as the extent of the descriptor, which does not change, and as the disk itself.
    let Some(path) = sparse::write(input, "x.vmdk", |_| ()) else { return };
    walk::image(&path);
    let text = "# Disk DescriptorFile\nversion=1\ncreateType=\"twoGbMaxExtentSparse\"\nRW 2048 SPARSE \"x.vmdk\"\n";
    let whole = sparse::directory().join("whole.vmdk");
    fs::write(&whole, text).unwrap();
    walk::image(&whole);
});
