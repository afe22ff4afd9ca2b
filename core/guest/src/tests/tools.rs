//! Programs of the system, with a visible skip when one is missing.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use build_image_disk::process::{Call, Environment};

/// Returns the program, or `None` after printing that it is missing; with BUILD_IMAGE_NO_SKIP=1 a missing program fails.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    // Programs that make file systems are not in every user's PATH.
    let system = ["/usr/sbin", "/sbin"].map(|directory| Path::new(directory).join(name));
    let found = environment().find(name).or_else(|| system.into_iter().find(|path| path.exists()));
    if found.is_none() {
        let strict = std::env::vars_os().any(|(k, v)| k == "BUILD_IMAGE_NO_SKIP" && v == "1");
        assert!(!strict, "{name} not found, and BUILD_IMAGE_NO_SKIP=1 forbids skipping");
        eprintln!("SKIPPED: {name} not found");
    }
    found
}

fn environment() -> Environment {
    Environment::keep(std::env::vars_os())
}

/// Runs a program that must succeed, and returns what it printed.
pub(crate) fn run(program: &Path, args: &[&dyn AsRef<OsStr>]) -> Vec<u8> {
    let args = args.iter().map(|arg| arg.as_ref().to_owned()).collect();
    let call = Call { program: program.to_owned(), args, environment: environment() };
    let got = call.capture(Duration::from_secs(300)).unwrap();
    let (out, err) = (String::from_utf8_lossy(&got.stdout), String::from_utf8_lossy(&got.stderr));
    assert!(got.status.success(), "{}: {}\n{out}\n{err}", program.display(), got.status);
    got.stdout
}
