//! Fuzzes public keys and signatures of openssl, minisign, and OpenSSH: a key, a zero byte, and a signature.
#![no_main]

use std::{
    io::{Seek as _, Write as _},
    ops::ControlFlow,
};

use build_image::signature::{Algorithm, TrustedKey, digests_of};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(end) = input.iter().position(|byte| *byte == 0) else { return };
    let (key, signature) = (&input[..end], &input[end + 1..]);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(key).unwrap();
    file.rewind().unwrap();
    let Ok(key) = TrustedKey::read(file.path(), Algorithm::Sha256) else { return };
    let verifies = |content: &str| {
        let go_on = &mut |_| ControlFlow::Continue(());
        let digests = digests_of(&mut content.as_bytes(), &key.algorithms(), go_on).unwrap();
        key.verify(&digests, signature).is_ok()
    };
    // No signature is of two files.
    assert!(!(verifies("a boot loader") && verifies("another boot loader")));
    assert!(!key.kind().is_empty() && !key.method().is_empty() && key.suffix().starts_with('.'));
});
