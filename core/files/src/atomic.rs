//! Writes one file under a temporary name and renames it when it is complete.

use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::OFlags,
    rand::{GetRandomFlags, getrandom},
};

use crate::{Identity, abandoned, lock};

/// Suffix of the names of unfinished files.
pub(crate) const SUFFIX: &str = ".part";
/// Number of bytes of the target's name that its temporary name repeats; file names have at most 255 bytes.
const LONGEST: usize = 200;
/// Number of random bytes in a temporary name.
const RANDOM: usize = 12;
/// Permissions of a new file, before the umask of the process is applied.
const MODE: u32 = 0o666;

/// A file under construction. It is locked while it is written, so that other processes recognise it as in
/// use, and it gets its final name in [`AtomicFile::commit`]; an existing file with that name is not changed
/// before. If it is dropped earlier, it is removed.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    identity: Identity,
    temporary: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl AtomicFile {
    /// Creates the temporary file beside `target`. Temporary files of the same target that killed processes
    /// left are removed. The umask of the process decides who may read the file.
    ///
    /// # Errors
    /// Fails when the file cannot be created.
    pub fn create(target: &Path) -> io::Result<Self> {
        Self::with_mode(target, MODE)
    }

    /// Like [`AtomicFile::create`], with other permissions than `0o666`, before the umask of the process is
    /// applied.
    ///
    /// # Errors
    /// Fails when the file cannot be created.
    pub fn with_mode(target: &Path, mode: u32) -> io::Result<Self> {
        abandoned::remove_of(target);
        loop {
            let temporary = temporary_path(target)?;
            if let Some(made) = Self::try_create(&temporary, target, mode)? {
                return Ok(made);
            }
        }
    }

    /// Creates a temporary file whose name was chosen with [`temporary_path`], for instance to record it
    /// before.
    ///
    /// # Errors
    /// Fails when the file cannot be created or the name exists already.
    pub fn create_at(temporary: &Path, target: &Path) -> io::Result<Self> {
        loop {
            if let Some(made) = Self::try_create(temporary, target, MODE)? {
                return Ok(made);
            }
        }
    }

    /// Takes over a complete file at a temporary path, to give it its final name. It is locked as if it was created here.
    ///
    /// # Errors
    /// Fails when the path is not a file, or another process holds its lock.
    pub fn open_at(temporary: &Path, target: &Path) -> io::Result<Self> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(temporary)?;
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if let Err(TryLockError::WouldBlock) = lock::take(&file) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let made = Self::of(file, temporary, target)?;
        made.check()?;
        Ok(made)
    }

    fn of(file: File, temporary: &Path, target: &Path) -> io::Result<Self> {
        Ok(Self {
            identity: Identity::of_file(&file)?,
            file,
            temporary: temporary.to_owned(),
            target: target.to_owned(),
            committed: false,
        })
    }

    /// Returns `None` if another process considered the new file abandoned before it was locked.
    fn try_create(temporary: &Path, target: &Path, mode: u32) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(mode)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(temporary)?;
        let made = Self::of(file, temporary, target)?;
        // Without locks, no process considers the file abandoned either.
        let contested = matches!(lock::take(&made.file), Err(TryLockError::WouldBlock));
        Ok((!contested && made.file.metadata()?.nlink() > 0).then_some(made))
    }

    /// Returns the open file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the identity of the file, which stays the same after [`AtomicFile::commit`].
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns the final path of the file.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Returns the temporary path of the file.
    #[must_use]
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Makes the content durable, replaces the file at the target, and makes that durable too.
    ///
    /// # Errors
    /// Fails when the file cannot be made durable or renamed, or is no longer at its temporary path.
    pub fn commit(mut self) -> io::Result<()> {
        self.sync()?;
        self.rename()?;
        sync_directory(parent(&self.target))
    }

    /// Like [`AtomicFile::commit`], for a file that need not survive a power cut.
    ///
    /// # Errors
    /// Fails when the file cannot be renamed, or is no longer at its temporary path.
    pub fn commit_unsynced(mut self) -> io::Result<()> {
        self.rename()
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Checks that the temporary path still refers to the file that was written.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.identity.is_at(&self.temporary)? {
            return Ok(());
        }
        let text = format!("another program removed or replaced `{}`", self.temporary.display());
        Err(io::Error::other(text))
    }

    pub(crate) fn rename(&mut self) -> io::Result<()> {
        self.check()?;
        fs::rename(&self.temporary, &self.target)?;
        self.committed = true;
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed && self.identity.is_at(&self.temporary).unwrap_or_default() {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Returns an unpredictable path beside `target`: `.<name>.<random>.part`.
///
/// # Errors
/// Fails when the kernel provides no random bytes.
pub fn temporary_path(target: &Path) -> io::Result<PathBuf> {
    let mut bytes = [0; RANDOM];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    let mut random = String::new();
    for byte in bytes {
        let _ = write!(random, "{byte:02x}");
    }
    let mut name = prefix(target);
    name.push(random);
    name.push(SUFFIX);
    Ok(target.with_file_name(name))
}

/// Makes the names in a directory durable.
///
/// # Errors
/// Fails when the file system reports a failure.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    let synced = File::open(directory).and_then(|opened| opened.sync_all());
    match synced {
        // The user may have write but no read permission for the directory, and some file systems cannot sync
        // directories.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        synced => synced,
    }
}

/// Returns the prefix of the temporary names of a target.
pub(crate) fn prefix(target: &Path) -> OsString {
    let name = target.file_name().unwrap_or_default().as_bytes();
    let mut prefix = OsString::from(".");
    prefix.push(OsStr::from_bytes(&name[..name.len().min(LONGEST)]));
    prefix.push(".");
    prefix
}

/// Returns the directory of a file.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_complete_file_is_taken_over_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let (complete, target) = (directory.path().join(".x.part"), directory.path().join("x"));
        fs::write(&complete, "complete").unwrap();
        let other = File::open(&complete).unwrap();
        lock::take(&other).unwrap();
        let refused = |path: &Path| AtomicFile::open_at(path, &target).unwrap_err();
        assert_eq!(refused(&complete).kind(), io::ErrorKind::ResourceBusy);
        drop(other);
        let link = directory.path().join("link");
        symlink(&complete, &link).unwrap();
        let followed = rustix::io::Errno::LOOP.raw_os_error();
        assert_eq!(refused(&link).raw_os_error(), Some(followed));
        assert_eq!(refused(&directory.path().join("absent")).kind(), io::ErrorKind::NotFound);
        fs::remove_file(link).unwrap();
        // Dropped, it is removed like one that was created here.
        drop(AtomicFile::open_at(&complete, &target).unwrap());
        assert_eq!(names(directory.path()), [""; 0]);
        fs::write(&complete, "complete").unwrap();
        let taken = AtomicFile::open_at(&complete, &target).unwrap();
        assert!(lock::is_taken(&File::open(&complete).unwrap()));
        taken.commit().unwrap();
        assert_eq!(names(directory.path()), ["x"]);
        assert_eq!(fs::read_to_string(&target).unwrap(), "complete");
    }

    #[test]
    fn a_file_appears_complete_and_the_older_one_stays_until_then() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk.img");
        fs::write(&target, "older").unwrap();
        let mut dropped = AtomicFile::create(&target).unwrap();
        dropped.write_all(b"half").unwrap();
        assert_eq!(names(directory.path()).len(), 2);
        drop(dropped);
        assert_eq!(names(directory.path()), ["disk.img"]);
        let mut file = AtomicFile::create(&target).unwrap();
        file.write_all(b"newer").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "older");
        let identity = file.identity();
        file.commit().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "newer");
        assert!(identity.is_at(&target).unwrap());
        assert_eq!(names(directory.path()), ["disk.img"]);
    }

    #[test]
    fn only_the_file_that_was_written_gets_the_name_and_only_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk.img");
        fs::write(&target, "older").unwrap();
        for planted in ["foreign", "nothing"] {
            let mut file = AtomicFile::create(&target).unwrap();
            file.write_all(b"mine").unwrap();
            let temporary = file.temporary().to_owned();
            fs::remove_file(&temporary).unwrap();
            if planted == "foreign" {
                fs::write(&temporary, planted).unwrap();
            }
            let error = file.commit().unwrap_err();
            assert!(error.to_string().contains("removed or replaced"), "{error}");
            assert_eq!(fs::read_to_string(&target).unwrap(), "older");
            assert_eq!(temporary.exists(), planted == "foreign", "another's file stays");
        }
    }

    #[test]
    fn two_writers_of_one_name_do_not_meet() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk.img");
        let mut first = AtomicFile::create(&target).unwrap();
        let mut second = AtomicFile::create(&target).unwrap();
        first.write_all(b"first").unwrap();
        second.write_all(b"second").unwrap();
        first.commit().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "first");
        second.commit().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "second");
    }

    #[test]
    fn what_killed_processes_left_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk.img");
        let busy = AtomicFile::create(&target).unwrap();
        let kept = [".other.img.a1.part", "disk.img", "disk.img.part"];
        for name in kept.iter().chain(&[".disk.img.a1.part"]) {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let outside = tempfile::NamedTempFile::new().unwrap();
        symlink(outside.path(), directory.path().join(".disk.img.link.part")).unwrap();
        drop(AtomicFile::create(&target).unwrap());
        let busy_name = busy.temporary().file_name().unwrap().to_str().unwrap().to_owned();
        let mut expected: Vec<&str> = kept.to_vec();
        expected.extend([busy_name.as_str(), ".disk.img.link.part"]);
        expected.sort_unstable();
        assert_eq!(names(directory.path()), expected);
        assert!(outside.path().exists());
        busy.commit().unwrap();
    }

    #[test]
    fn names_as_long_as_names_can_be_and_names_that_are_not_text_work() {
        let directory = tempfile::tempdir().unwrap();
        let long = "x".repeat(255);
        for name in [OsStr::new(&long), OsStr::from_bytes(b"\xff\xfe.raw")] {
            let target = directory.path().join(name);
            AtomicFile::create(&target).unwrap().commit().unwrap();
            assert!(target.exists());
        }
    }

    #[test]
    fn a_link_at_the_target_is_replaced_and_a_directory_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let (target, outside) =
            (directory.path().join("disk.img"), directory.path().join("precious"));
        fs::write(&outside, "precious").unwrap();
        symlink(&outside, &target).unwrap();
        AtomicFile::create(&target).unwrap().commit().unwrap();
        assert!(target.symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read_to_string(&outside).unwrap(), "precious");
        fs::remove_file(&target).unwrap();
        fs::create_dir(&target).unwrap();
        assert!(AtomicFile::create(&target).unwrap().commit().is_err());
        assert_eq!(names(directory.path()), ["disk.img", "precious"]);
    }

    #[test]
    fn permissions_are_those_asked_for_as_far_as_the_mask_allows() {
        let directory = tempfile::tempdir().unwrap();
        let ordinary = directory.path().join("ordinary");
        fs::write(&ordinary, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for requested in [0o666, 0o644, 0o600] {
            let target = directory.path().join("target");
            AtomicFile::with_mode(&target, requested).unwrap().commit().unwrap();
            assert_eq!(mode(&target), mode(&ordinary) & requested);
        }
    }

    #[test]
    fn a_chosen_temporary_name_that_is_taken_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk.img");
        let temporary = temporary_path(&target).unwrap();
        let outside = directory.path().join("outside");
        symlink(&outside, &temporary).unwrap();
        let error = AtomicFile::create_at(&temporary, &target).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(!outside.exists());
        fs::remove_file(&temporary).unwrap();
        AtomicFile::create_at(&temporary, &target).unwrap().commit_unsynced().unwrap();
        assert_eq!(names(directory.path()), ["disk.img"]);
    }
}
