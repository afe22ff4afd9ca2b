//! Fuzzes the messages that a program sends to its host.
#![no_main]

use build_image::fuzzing::is_message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = is_message(input);
});
