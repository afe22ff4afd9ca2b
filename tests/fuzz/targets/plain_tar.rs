//! Fuzzes tar archives of one exact form: what is read is laid out again, and must be the same bytes.
#![no_main]

use std::fs::File;
use std::os::unix::fs::FileExt;

use build_image_disk::pack::plain_tar::{HEADER, header, length, members, next};
use build_image_fuzz::{checksum, sparse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(path) = sparse::write(input, "x.tar", checksum::tar_headers) else { return };
    let file = File::open(&path).unwrap();
    let Ok(found) = members(&file, &path, 4) else { return };
    assert!(found.len() <= 4);
    let mut at = 0;
    for member in found {
        let mut bytes = [0; 512];
        file.read_exact_at(&mut bytes, at).unwrap();
        assert_eq!(header(&member.name, member.length).unwrap(), bytes);
        assert!(!member.name.contains('/'));
        assert_eq!(member.offset, at + HEADER);
        at = next(member.offset, member.length);
    }
    assert_eq!(file.metadata().unwrap().len(), length(at));
});
