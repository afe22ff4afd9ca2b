//! Detects temporary files of killed processes, which are no longer locked.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
};

use rustix::fs::OFlags;

use crate::{Identity, atomic};

/// Removes abandoned temporary files of this user from a directory: those whose names start with `prefix` and
/// end in `.part`. Files that are being written, belong to another user, or cannot be removed are kept.
pub fn remove(directory: &Path, prefix: &OsStr) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.as_bytes();
        if name.starts_with(prefix.as_bytes()) && name.ends_with(atomic::SUFFIX.as_bytes()) {
            // Best effort: the next build tries again.
            let _ = remove_one(&entry.path());
        }
    }
}

/// Removes the temporary files of `target` that killed processes left.
pub fn remove_of(target: &Path) {
    remove(atomic::parent(target), &atomic::prefix(target));
}

/// Returns whether a name has the form that [`crate::AtomicFile`] gives to unfinished files.
#[must_use]
pub fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b".") && name.ends_with(atomic::SUFFIX.as_bytes())
}

/// Removes a temporary file unless a process is writing it. Returns whether it was removed.
///
/// # Errors
/// Fails when the file cannot be opened or removed.
pub fn remove_one(path: &Path) -> io::Result<bool> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file: File =
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let found = file.metadata()?;
    let is_own = found.uid() == rustix::process::geteuid().as_raw();
    if !found.is_file() || !is_own || file.try_lock().is_err() {
        return Ok(false);
    }
    // Its writer may have renamed it before it was locked here.
    if !Identity::of(&found).is_at(path)? {
        return Ok(false);
    }
    fs::remove_file(path)?;
    Ok(true)
}
