//! Writes files that appear complete or not at all, also when several programs write the same one.
//!
//! 1. [`AtomicFile`]: one file, written under an unpredictable name beside its target and renamed
//! 2. [`FileSet`]: several of them that appear together
//! 3. [`abandoned`]: recognises and removes what killed processes left of them
//! 4. [`Identity`]: which file a path leads to, whatever its name
//! 5. [`lock`]: advisory locks that end with their process
//!
//! The crate knows nothing of disks, providers or builds. Errors are those of the operating system; the caller
//! names the file.
#![forbid(unsafe_code)]

pub mod abandoned;
mod atomic;
mod identity;
pub mod lock;
mod set;

pub use atomic::{AtomicFile, sync_directory, temporary_path};
pub use identity::Identity;
pub use set::{FileSet, SetError};
