//! Takes advisory locks of files, which end with the process that holds them.
//!
//! Such a lock belongs to an open file (flock(2)). A program that is being started has its parent's open files
//! until it is executed, also when the parent was killed meanwhile; and whoever asks whether a file is locked
//! has its lock for a moment. So a lock that is taken is asked for again, for a while.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::OFlags;

use crate::Identity;

/// How long a lock is asked for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long [`is_taken`] asks.
const GLANCE: Duration = Duration::from_millis(100);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(5);
/// Attempts before a lock counts as taken, however much time passed: on a busy host this process may have been
/// stopped for all of it.
const ATTEMPTS: u32 = 10;

/// Takes a file's lock within two seconds.
///
/// # Errors
/// `WouldBlock` when another process has it and keeps it.
pub fn take(file: &File) -> Result<(), TryLockError> {
    take_within(file, PATIENCE)
}

/// Takes a file's lock.
///
/// # Errors
/// `WouldBlock` when another process keeps it longer than `patience`.
pub fn take_within(file: &File, patience: Duration) -> Result<(), TryLockError> {
    ask(patience, || file.try_lock())
}

/// Whether a process holds a file's lock; not, when that cannot be found out.
#[must_use]
pub fn is_taken(file: &File) -> bool {
    matches!(probe(file), Ok(true))
}

/// Whether a process holds a file's lock.
///
/// # Errors
/// When the file system has no locks.
pub fn probe(file: &File) -> io::Result<bool> {
    // A shared lock is refused only while a process holds the exclusive one.
    match ask(GLANCE, || file.try_lock_shared()) {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A lock with a file that exists only while it is held, for short work in a directory that others use too. The
/// file is written to, so that the lock also works where it needs a writable file (NFS).
#[derive(Debug)]
pub struct LockFile {
    file: File,
    path: PathBuf,
}

impl LockFile {
    /// Takes the lock at `path`, in an existing directory.
    ///
    /// # Errors
    /// `WouldBlock` when another process keeps it longer than `patience`; another error when the file cannot be
    /// made, is a link, or the file system has no locks.
    pub fn take(path: &Path, patience: Duration) -> Result<Self, TryLockError> {
        loop {
            let file = open(path).map_err(TryLockError::Error)?;
            let outcome = take_within(&file, patience);
            if let Err(TryLockError::Error(error)) = outcome {
                // Nothing can be waiting for a lock that does not exist.
                let _ = fs::remove_file(path);
                return Err(TryLockError::Error(error));
            }
            outcome?;
            // The last holder removes the file, also while others wait for its lock.
            let identity = Identity::of_file(&file).map_err(TryLockError::Error)?;
            if identity.is_at(path).map_err(TryLockError::Error)? {
                return Ok(Self { file, path: path.to_owned() });
            }
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let is_ours = Identity::of_file(&self.file).and_then(|found| found.is_at(&self.path));
        if is_ours.unwrap_or_default() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens a lock's file, for writing where this user may.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags);
    let opened = match options.clone().write(true).create(true).open(path) {
        // Another user's, left by a killed process.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => options.open(path),
        opened => opened,
    }?;
    let is_file = opened.metadata()?.is_file();
    if is_file { Ok(opened) } else { Err(io::Error::other("it is not a regular file")) }
}

#[expect(clippy::disallowed_methods, reason = "nothing reports that a lock is free again")]
fn ask(
    patience: Duration,
    attempt: impl Fn() -> Result<(), TryLockError>,
) -> Result<(), TryLockError> {
    let begun = Instant::now();
    let mut attempts = 1;
    loop {
        match attempt() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < patience || attempts < ATTEMPTS => {
                attempts += 1;
                std::thread::sleep(PAUSE);
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_gets_free_is_waited_for_and_one_that_does_not_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let open = || File::create(directory.path().join("lock")).unwrap();
        let (first, second) = (open(), open());
        take(&first).unwrap();
        assert!(is_taken(&open()));
        assert!(matches!(take(&second), Err(TryLockError::WouldBlock)));
        let waiting = std::thread::spawn(move || take(&second));
        drop(first);
        assert!(waiting.join().unwrap().is_ok());
    }

    #[test]
    fn a_lock_file_is_held_by_one_at_a_time_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (path, counter) = (directory.path().join("lock"), directory.path().join("counter"));
        fs::write(&counter, "0").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let _held = LockFile::take(&path, Duration::from_secs(60)).unwrap();
                        let count: u32 = fs::read_to_string(&counter).unwrap().parse().unwrap();
                        fs::write(&counter, (count + 1).to_string()).unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_to_string(&counter).unwrap(), "200");
        assert!(!path.exists());
    }

    #[test]
    fn a_link_is_not_taken_as_a_lock_and_an_absent_directory_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let (link, elsewhere) = (directory.path().join("link"), directory.path().join("elsewhere"));
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        for path in [&link, &directory.path().join("absent/lock")] {
            let refused = LockFile::take(path, Duration::ZERO);
            assert!(matches!(refused, Err(TryLockError::Error(_))), "{}", path.display());
        }
        assert!(!elsewhere.exists());
    }
}
