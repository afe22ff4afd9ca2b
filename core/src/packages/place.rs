//! The provider directory that packages are installed into. One process at a time changes it.

use std::{
    fs::{self, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use build_image_files::lock::LockFile;

use super::{publishers::in_use, records::Records};
use crate::{
    artifacts::make_private,
    error::{Error, Result, Stage},
    interrupt::Interrupt,
    report::Reporter,
};

/// Directory of files that are not verified yet, below the provider directory; plugins are never searched there.
const STAGING: &str = ".staging";
/// The lock of the provider directory.
const LOCK: &str = ".packages.lock";
/// Time for which a lock is tried before an interrupt is looked at.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);
/// Number of these attempts before another process is reported as being at work.
const ATTEMPTS: u32 = 1500;

/// The provider directory.
pub(crate) struct Place {
    directory: PathBuf,
}

/// The provider directory, locked.
pub(super) struct Held {
    staging: PathBuf,
    _lock: LockFile,
}

impl Place {
    /// The directory that the user named, otherwise that of this user.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn new(named: Option<&Path>, user: Option<PathBuf>) -> Result<Self> {
        let directory = named.map(Path::to_owned).or(user).ok_or_else(|| {
            Error::new(Stage::Settings, "no directory is known to install providers into")
                .hint("set HOME or XDG_DATA_HOME, or give --provider-dir")
        })?;
        let directory = std::path::absolute(&directory).unwrap_or(directory);
        Ok(Self { directory })
    }

    /// Its path.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads what is installed, as it is on disk.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub(crate) fn records(&self) -> Result<Records> {
        Records::read(&self.directory)
    }

    /// Locks the directory, and removes what killed processes left in it. Creates it when it is absent.
    ///
    /// # Errors
    /// When it cannot be written, another process holds it for minutes, or on an interrupt.
    pub(super) fn hold(&self, reporter: &Reporter, interrupt: &Interrupt) -> Result<Held> {
        let write_error = |error: &io::Error| {
            let text =
                format!("cannot write to the provider directory `{}`", self.directory.display());
            Error::new(Stage::Disk, text)
                .caused_by(error)
                .hint("name another directory with --provider-dir, or run as its owner")
        };
        make_private(&self.directory).map_err(|error| write_error(&error))?;
        let path = self.directory.join(LOCK);
        let mut attempts = 0;
        let lock = loop {
            match LockFile::take(&path, LOCK_TIMEOUT) {
                Ok(lock) => break lock,
                Err(TryLockError::Error(error)) => return Err(write_error(&error)),
                Err(TryLockError::WouldBlock) if attempts < ATTEMPTS => {}
                Err(TryLockError::WouldBlock) => return Err(in_use(&self.directory)),
            }
            if attempts == 0 {
                reporter.milestone("waiting for another build-image that changes the providers");
            }
            attempts += 1;
            interrupt.check()?;
        };
        let staging = self.directory.join(STAGING);
        let emptied = match fs::remove_dir_all(&staging) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => make_private(&staging),
        };
        emptied.map_err(|error| write_error(&error))?;
        Ok(Held { staging, _lock: lock })
    }
}

impl Held {
    /// Path of a file that is not verified yet.
    pub(super) fn staged(&self, name: &str) -> PathBuf {
        self.staging.join(name)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // What stays is removed by the next process that locks the directory.
        let _ = fs::remove_dir_all(&self.staging);
    }
}
