//! Fuzzes tar archives of one exact form: what is read is laid out again, and must be the same bytes.
#![no_main]

use std::fs::File;
use std::os::unix::fs::FileExt;

use build_image_disk::pack::plain_tar::{HEADER, header, length, members, next};
use build_image_fuzz::sparse;
use libfuzzer_sys::fuzz_target;

/// The place of the checksum in a header: eight bytes, which count as blanks.
const SUM: std::ops::Range<usize> = 148..156;

/// Makes the checksums of headers right: a mutation alone never does.
fn repair(pieces: &mut Vec<(u64, Vec<u8>)>) {
    for (_, bytes) in pieces {
        let Some(header) = bytes.get_mut(..512) else { continue };
        header[SUM].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[SUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fuzz_target!(|input: &[u8]| {
    let Some(path) = sparse::write(input, "x.tar", repair) else { return };
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
