//! Fuzzes an initramfs: archives in every compression.
#![no_main]

use std::time::Duration;

use build_image_guest::Limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let limits = Limits { time: Duration::from_secs(5), unpacked: 64 << 20, ..Limits::default() };
    let found = build_image_guest::fuzzing::initramfs(input, limits);
    assert!(found.modules.len() as u64 <= found.members);
});
