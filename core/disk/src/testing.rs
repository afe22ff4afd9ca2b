//! Provides helpers for tests: programs of the system, with a visible skip when one is missing, and generated
//! bytes.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use crate::process::{Call, Captured, Environment};

pub(crate) fn environment() -> Environment {
    Environment::keep(std::env::vars_os())
}

/// Returns the program, or `None` after printing that it is missing; with BUILD_IMAGE_NO_SKIP=1 a missing
/// program fails.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let found = environment().find(name);
    if found.is_none() {
        let strict = std::env::vars_os().any(|(k, v)| k == "BUILD_IMAGE_NO_SKIP" && v == "1");
        assert!(!strict, "{name} not found, and BUILD_IMAGE_NO_SKIP=1 forbids skipping");
        eprintln!("SKIPPED: {name} not found");
    }
    found
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &std::path::Path, args: &[&dyn AsRef<OsStr>]) -> Captured {
    let got = run_any(program, args);
    let (out, err) = (String::from_utf8_lossy(&got.stdout), String::from_utf8_lossy(&got.stderr));
    assert!(got.status.success(), "{}: {}\n{out}\n{err}", program.display(), got.status);
    got
}

/// Runs a program and accepts any exit status.
pub(crate) fn run_any(program: &std::path::Path, args: &[&dyn AsRef<OsStr>]) -> Captured {
    let args = args.iter().map(|arg| arg.as_ref().to_owned()).collect();
    let call = Call { program: program.to_owned(), args, environment: environment() };
    call.capture(Duration::from_secs(300)).unwrap()
}

/// Returns bytes without zeros and without a pattern, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3] | 1
    };
    (0..len).map(step).collect()
}
