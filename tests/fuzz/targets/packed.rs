//! Fuzzes compressed files and archives: the disk in them is in the file, or unpacked to a file of the reported length, or
//! an error is returned.
#![no_main]

use std::ops::ControlFlow;

use build_image_disk::packed::{Content, find};
use build_image_disk::{Format, GuestReader};
use build_image_fuzz::sparse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let path = sparse::write_whole(input, "x");
    let mut seen = 0;
    let found = find(&path, sparse::directory(), None, &mut |piece| {
        seen += piece.len();
        ControlFlow::Continue(())
    });
    let Ok(found) = found else { return };
    match found.content {
        Content::Unpacked { file, len, .. } => {
            assert!(!found.streamed || seen == input.len(), "every byte once, to the last");
            assert_eq!(file.metadata().unwrap().len(), len);
        }
        Content::InPlace { file } => {
            let reader = GuestReader::open_file(file, Some(Format::Raw)).expect("it is in the file");
            assert!(reader.virtual_size() <= input.len() as u64);
            let mut last = [0];
            let end = reader.virtual_size().saturating_sub(1);
            reader.read_at(&mut last, end).expect("the last byte can be read");
        }
    }
});
