//! Fuzzes what a raw disk records about itself: boot record, GUID partition table, FAT of its EFI system
//! partition.
#![no_main]

use build_image_disk::GuestReader;
use build_image_disk::facts::Facts;
use build_image_fuzz::{checksum, sparse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let repair = |pieces: &mut checksum::Pieces| {
        if input.len() % 2 == 0 {
            checksum::gpt(pieces);
        }
    };
    let Some(path) = sparse::write(input, "x.raw", repair) else { return };
    let Ok(disk) = GuestReader::open_raw(&path) else { return };
    let facts = Facts::read(&disk).expect("what a disk holds is never an error");
    assert!(facts.sector == 512 || facts.sector == 4096);
    let _ = facts.is_uefi_only();
});
