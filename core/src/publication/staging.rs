//! Manages the directories of files that are not released yet: a process claims one, and another process
//! recognises it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use build_image_files::lock::{self, LockFile};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::{
    artifacts::{cannot, cannot_lock},
    error::{Error, Result, Stage},
    settings::keys::IMAGE_DIR,
};

/// Prefix of the names of staging directories; the run's id follows.
pub(super) const PREFIX: &str = ".build-image-";
/// The file in a staging directory that identifies its run.
pub(super) const OWNER: &str = ".build-image.owner.json";
/// Longest such file that is read, in bytes.
const OWNER_LIMIT: u64 = 4096;
/// The lock of IMAGE_DIR, which is held while its entries are examined and changed.
pub(super) const LOCK: &str = ".build-image.lock";
/// Time limit for taking the lock. It is held for a few renames and their fsync.
const PATIENCE: Duration = Duration::from_secs(60);

/// The contents of that file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Owner {
    pub(super) stem: String,
    pub(super) run: String,
}

/// The staging directory of a run. The run's id is read from a journal and must not lead elsewhere.
pub(super) fn staging(image_dir: &Path, run_id: &str) -> Result<PathBuf> {
    let legal =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    if run_id.is_empty() || !run_id.chars().all(legal) {
        return Err(Error::new(Stage::Bug, format!("`{run_id}` is not the id of a run")));
    }
    Ok(image_dir.join(format!("{PREFIX}{run_id}")))
}

pub(super) fn lock_directory(image_dir: &Path) -> Result<LockFile> {
    LockFile::take(&image_dir.join(LOCK), PATIENCE).map_err(|error| not_locked(image_dir, error))
}

pub(super) fn not_locked(image_dir: &Path, error: TryLockError) -> Error {
    let display = image_dir.display();
    match error {
        TryLockError::WouldBlock => {
            let text = format!("another build keeps `{display}` locked");
            Error::new(Stage::InUse, text).hint("run the command again when it is done")
        }
        TryLockError::Error(error) => {
            cannot_lock("lock the directory", image_dir, &error, IMAGE_DIR)
        }
    }
}

/// Refuses a build while another running build writes the same stem.
pub(super) fn refuse_second(image_dir: &Path, stem: &str, run_id: &str) -> Result<()> {
    let read_error = |error: io::Error| cannot("read", image_dir, &error);
    for entry in fs::read_dir(image_dir).map_err(read_error)? {
        let entry = entry.map_err(read_error)?;
        let name = entry.file_name();
        let other = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let Some(other) = other.filter(|other| *other != run_id) else { continue };
        // An unreadable file belongs to another user; the last build to commit gets the name, with a complete set.
        let Ok(file) = open_unfollowed(&entry.path().join(OWNER)) else { continue };
        let mut text = Vec::new();
        let read = (&file).take(OWNER_LIMIT).read_to_end(&mut text);
        let owner: Owner = serde_json::from_slice(&text).unwrap_or_default();
        if read.is_ok() && owner.stem == stem && lock::is_taken(&file) {
            let text = format!("build `{other}` is writing `{stem}` in `{}`", image_dir.display());
            return Err(Error::new(Stage::InUse, text)
                .hint(format!("wait until it is done, or set {IMAGE_DIR} to another directory")));
        }
    }
    Ok(())
}

/// Checks that a staging directory was created by an earlier process of this user.
pub(super) fn check_own(staging: &Path) -> Result<()> {
    let found = fs::symlink_metadata(staging).map_err(|error| cannot("read", staging, &error))?;
    if found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let text = format!("`{}` is not a directory of this user", staging.display());
    Err(Error::new(Stage::Disk, text).hint("remove it, and build again instead of resuming"))
}

/// Locks a staging directory and writes its owner file.
pub(super) fn claim(staging: &Path, owner: &Owner) -> Result<File> {
    let path = staging.join(OWNER);
    let write_error = |error: io::Error| cannot("write", &path, &error);
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600).custom_flags(flags);
    let mut file = options.open(&path).map_err(write_error)?;
    lock::take(&file).map_err(|error| match error {
        TryLockError::WouldBlock => {
            let text = format!("another process works on run `{}`", owner.run);
            Error::new(Stage::InUse, text).hint("wait until it is done")
        }
        TryLockError::Error(_) => not_locked(staging, error),
    })?;
    let text = serde_json::to_vec(owner).unwrap_or_default();
    if let Err(error) = file.set_len(0).and_then(|()| file.write_all(&text)) {
        let _ = fs::remove_file(&path);
        return Err(write_error(error));
    }
    Ok(file)
}

pub(super) fn open_unfollowed(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Removes a staging directory; a link or another file in its place is kept.
pub(super) fn remove_staging(staging: &Path) -> Result<()> {
    match fs::symlink_metadata(staging) {
        Ok(_) => check_own(staging)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot("read", staging, &error)),
    }
    fs::remove_dir_all(staging).map_err(|error| cannot("remove", staging, &error))
}
