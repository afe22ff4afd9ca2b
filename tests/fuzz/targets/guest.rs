//! Fuzzes the inspection of a disk: tables, LVM, ext4, FAT, and what is in their files.
#![no_main]

use std::time::Duration;

use build_image_disk::GuestReader;
use build_image_fuzz::{checksum, sparse};
use build_image_guest::{Attributes, Limits, Requirements, check, inspect_with_packages};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let repair = |pieces: &mut checksum::Pieces| {
        if input.len() % 2 == 0 {
            checksum::gpt(pieces);
        }
    };
    let Some(path) = sparse::write(input, "x.raw", repair) else { return };
    let Ok(disk) = GuestReader::open_raw(&path) else { return };
    let limits = Limits { time: Duration::from_secs(5), ..Limits::default() };
    let (found, packages) =
        inspect_with_packages(&disk, limits).expect("what a disk holds is never an error");
    check(&found, &Requirements::default());
    Attributes::of(&found);
    assert!(packages.packages.len() <= input.len() + 1);
});
