//! Fuzzes OVF descriptors: they are read or refused.
#![no_main]

use build_image_disk::ovf::Machine;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(machine) = Machine::parse(input) {
        assert!(machine.disks.len() <= input.len());
        let _ = machine.summary();
    }
});
