//! Acquires advisory locks on files, which end with the process that holds them.
//!
//! Such a lock belongs to an open file (flock(2)). A process that is being started shares the open files of
//! its parent until it executes its program, even if the parent was killed meanwhile; and a process that
//! checks whether a file is locked holds its lock for a moment. Therefore a lock that is held by another
//! process is tried again for a while.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::OFlags;

use crate::Identity;

/// Time for which a lock is tried.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for which [`is_taken`] tries.
const PROBE_TIMEOUT: Duration = Duration::from_millis(100);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(5);
/// Minimum number of attempts before a lock counts as held, regardless of the elapsed time: on a busy host
/// this process may have been stopped during all of it.
const ATTEMPTS: u32 = 10;

/// Locks a file; waits at most two seconds.
///
/// # Errors
/// `WouldBlock` when another process holds the lock for longer.
pub fn take(file: &File) -> Result<(), TryLockError> {
    take_within(file, LOCK_TIMEOUT)
}

/// Locks a file.
///
/// # Errors
/// `WouldBlock` when another process holds the lock for longer than `timeout`.
pub fn take_within(file: &File, timeout: Duration) -> Result<(), TryLockError> {
    retry(timeout, || file.try_lock())
}

/// Returns whether a process holds the lock of a file; `false` when that cannot be determined.
#[must_use]
pub fn is_taken(file: &File) -> bool {
    matches!(probe(file), Ok(true))
}

/// Returns whether a process holds the lock of a file.
///
/// # Errors
/// Fails when the file system does not support locks.
pub fn probe(file: &File) -> io::Result<bool> {
    // A shared lock is refused only while a process holds the exclusive one.
    match retry(PROBE_TIMEOUT, || file.try_lock_shared()) {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A lock with a file that exists only while the lock is held, for short work in a directory that other
/// processes use too. The file is opened for writing, so that the lock also works on file systems that
/// require a writable file (NFS).
#[derive(Debug)]
pub struct LockFile {
    file: File,
    path: PathBuf,
}

impl LockFile {
    /// Acquires the lock at `path`, in an existing directory.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds the lock for longer than `timeout`; another error when the
    /// file cannot be created, is a symbolic link, or the file system does not support locks.
    pub fn take(path: &Path, timeout: Duration) -> Result<Self, TryLockError> {
        loop {
            let file = open(path).map_err(TryLockError::Error)?;
            let outcome = take_within(&file, timeout);
            if let Err(TryLockError::Error(error)) = outcome {
                // No process can be waiting for a lock that does not exist.
                let _ = fs::remove_file(path);
                return Err(TryLockError::Error(error));
            }
            outcome?;
            // The last holder removes the file, even while other processes wait for its lock.
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

/// Opens the file of a lock, for writing if this user is permitted.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags);
    let opened = match options.clone().write(true).create(true).open(path) {
        // The file belongs to another user and was left by a killed process.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => options.open(path),
        opened => opened,
    }?;
    let is_file = opened.metadata()?.is_file();
    if is_file { Ok(opened) } else { Err(io::Error::other("it is not a regular file")) }
}

#[expect(clippy::disallowed_methods, reason = "the release of a lock is not reported")]
fn retry(
    timeout: Duration,
    attempt: impl Fn() -> Result<(), TryLockError>,
) -> Result<(), TryLockError> {
    let started_at = Instant::now();
    let mut attempts = 1;
    loop {
        match attempt() {
            Err(TryLockError::WouldBlock)
                if started_at.elapsed() < timeout || attempts < ATTEMPTS =>
            {
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
