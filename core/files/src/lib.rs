//! Writes files that appear complete or not at all, also when several programs write the same file.
//!
//! 1. [`AtomicFile`]: one file, written under an unpredictable name beside its target and renamed
//! 2. [`FileSet`]: several files that appear together
//! 3. [`abandoned`]: detects and removes temporary files that killed processes left
//! 4. [`Identity`]: identifies the file at a path, independent of its name
//! 5. [`lock`]: advisory locks that end with their process
//!
//! The crate does not depend on disks, providers, or builds. Errors are those of the operating system; the
//! caller adds the name of the file.
#![forbid(unsafe_code)]

pub mod abandoned;
mod atomic;
mod identity;
pub mod lock;
mod set;

pub use atomic::{AtomicFile, sync_directory, temporary_path};
pub use identity::Identity;
pub use set::{FileSet, SetError};
