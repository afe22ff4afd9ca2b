//! Locks of files, which end with the process that holds them.
//!
//! Such a lock belongs to an open file (flock(2)). A program that is being started has its parent's open files
//! until it is executed, also when the parent was killed meanwhile; and whoever asks whether a file is locked
//! has its lock for a moment. So a lock that is not free is asked for again, for a while.

use std::{
    fs::{File, TryLockError},
    time::{Duration, Instant},
};

/// How long a lock is asked for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long somebody who only wants to know asks.
const GLANCE: Duration = Duration::from_millis(100);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(5);

/// Takes a file's lock.
///
/// # Errors
/// `WouldBlock` when another process has it and keeps it.
pub(crate) fn take(file: &File) -> Result<(), TryLockError> {
    ask(PATIENCE, || file.try_lock())
}

/// Whether a process holds a file's lock.
pub(crate) fn is_taken(file: &File) -> bool {
    // A shared lock is refused only while somebody has it alone.
    matches!(ask(GLANCE, || file.try_lock_shared()), Err(TryLockError::WouldBlock))
}

#[expect(
    clippy::disallowed_methods,
    reason = "nobody tells when a lock gets free, and it is not for long"
)]
fn ask(
    patience: Duration,
    attempt: impl Fn() -> Result<(), TryLockError>,
) -> Result<(), TryLockError> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < patience => {
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
        let folder = tempfile::tempdir().unwrap();
        let open = || File::create(folder.path().join("lock")).unwrap();
        let (first, second) = (open(), open());
        take(&first).unwrap();
        assert!(is_taken(&open()));
        assert!(matches!(take(&second), Err(TryLockError::WouldBlock)));
        let waiting = std::thread::spawn(move || take(&second));
        drop(first);
        assert!(waiting.join().unwrap().is_ok());
    }
}
