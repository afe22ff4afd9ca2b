//! Fuzzes files of a guest: configurations of boot loaders, fstab, metadata of LVM, headers of UEFI programs.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| build_image_guest::fuzzing::files(input));
