//! Fuzzes what a registry answers: a manifest, and the challenge of an authentication.
#![no_main]

use build_image::fuzzing::{challenge, manifest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for digest in manifest(input).into_iter().flatten() {
        assert_eq!(digest.len(), "sha256:".len() + 64);
    }
    let text = String::from_utf8_lossy(input);
    for value in challenge(&text).into_iter().flatten() {
        assert!(!value.contains('"') && text.contains(value));
    }
});
