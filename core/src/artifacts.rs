//! Folders of a build's files: made with a marker, removed only when they carry it; and how files are put into
//! them, so that a link in their place is never followed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use build_image_files::{AtomicFile, lock};
use rustix::{fs::OFlags, io::Errno};

use crate::{
    error::{Error, Result, Stage},
    journal,
};

/// File that marks a directory as made by this tool; its content is the tool's version.
const MARKER: &str = "generator-info.json";
/// Content of the marker.
const VERSION: &str = concat!("{\"VERSION\":\"", env!("CARGO_PKG_VERSION"), "\"}\n");

/// What is wrong with a link that somebody put where a build will write.
const LINK: &str = "a link stands in its place, which is not followed";

/// A build's directory, claimed by this process: no other build works in it.
#[derive(Debug)]
pub struct Claim {
    directory: PathBuf,
    /// Its lock ends when it is closed.
    _lock: File,
}

impl Claim {
    /// Makes the directory of a build, or empties an earlier build's.
    ///
    /// # Errors
    /// When it cannot be made, another build works in it, or it holds files of somebody else.
    pub fn take(directory: &Path) -> Result<Self> {
        let lock = lock_of(directory)?;
        let failed = |error: io::Error| cannot("prepare the directory", directory, &error);
        let is_empty = fs::read_dir(directory).map_err(failed)?.next().is_none();
        if !is_empty && !is_marked(directory) {
            return Err(Error::new(
                Stage::Disk,
                format!(
                    "the artifacts directory `{}` holds files of somebody else",
                    directory.display()
                ),
            )
            .hint("set ARTIFACTS_DIR to another folder"));
        }
        empty(directory, MARKER).map_err(failed)?;
        // Never under another name: a directory that is not empty and has no marker is somebody else's.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o644);
        open_unlinked(&mut options, &directory.join(MARKER))
            .and_then(|mut marker| marker.write_all(VERSION.as_bytes()))
            .map_err(failed)?;
        Ok(Self { directory: directory.to_owned(), _lock: lock })
    }

    /// Claims the directory of an earlier process of the same run, with what is in it.
    ///
    /// # Errors
    /// When another build works in it.
    pub fn keep(directory: &Path) -> Result<Self> {
        let lock = lock_of(directory)?;
        Ok(Self { directory: directory.to_owned(), _lock: lock })
    }

    /// Claims the directory of an earlier build of the same thing, with what is in it; nothing when there is
    /// none, or another version of this tool made it.
    ///
    /// # Errors
    /// When another build works in it.
    pub fn earlier(directory: &Path) -> Result<Option<Self>> {
        if !fs::read_to_string(directory.join(MARKER)).is_ok_and(|text| text == VERSION) {
            return Ok(None);
        }
        Self::keep(directory).map(Some)
    }

    /// Removes the directory, and directories above it up to `base` that are empty then.
    pub fn remove(self, base: &Path) {
        remove_tree(&self.directory, MARKER, base);
    }
}

/// Removes the directory of a build that is over, unless another build works in it by now.
pub fn remove_left(directory: &Path, base: &Path) {
    if !is_marked(directory) {
        // Whoever removed it was killed before the directory itself went.
        remove_empty(directory, base);
        return;
    }
    match Claim::keep(directory) {
        Ok(claim) => claim.remove(base),
        Err(error) => tracing::info!(directory = %directory.display(), %error, "left alone"),
    }
}

fn is_marked(directory: &Path) -> bool {
    directory.join(MARKER).symlink_metadata().is_ok_and(|found| found.is_file())
}

/// Makes a directory that only its owner looks into, and those above it as the mask of this process allows. One that is
/// there stays as it is.
///
/// # Errors
/// When it cannot be made, or something else stands in its place: a link too, which leads elsewhere.
pub(crate) fn make_private(directory: &Path) -> io::Result<()> {
    let attempt = || {
        directory.parent().map_or(Ok(()), fs::create_dir_all)?;
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        directory.symlink_metadata()
    };
    // Another build may remove the directory above, or this one while it is empty, at any moment.
    let mut made = attempt();
    for _ in 0..100 {
        if !made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            break;
        }
        made = attempt();
    }
    let found = made?.file_type();
    if found.is_symlink() {
        return Err(io::Error::other(LINK));
    }
    if found.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

/// Opens a file for writing where no link is followed.
///
/// # Errors
/// When it cannot be opened, or a link stands in its place.
pub(crate) fn open_unlinked(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path).map_err(|error| {
        if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
            return io::Error::other(LINK);
        }
        error
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file")) }
}

/// Writes a file, complete or not at all, also when the power fails. What stands in its place is replaced; a link is not followed.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::with_mode(path, 0o644)?;
    file.write_all(content)?;
    file.commit()
}

/// Makes the directory and locks it. A directory that was removed by its last user meanwhile is made again.
fn lock_of(directory: &Path) -> Result<File> {
    let failed = |error: io::Error| cannot("lock the directory", directory, &error);
    loop {
        make_private(directory).map_err(|error| cannot_make(directory, &error))?;
        let opened = match File::open(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(failed)?,
        };
        match lock::take(&opened) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    Stage::Disk,
                    format!(
                        "another build works in the artifacts directory `{}`",
                        directory.display()
                    ),
                )
                .hint("wait until it is done, or set ARTIFACTS_DIR to another folder"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mine = opened.metadata().map_err(failed)?;
        if fs::metadata(directory)
            .is_ok_and(|now| (now.dev(), now.ino()) == (mine.dev(), mine.ino()))
        {
            return Ok(opened);
        }
    }
}

/// Removes the directory of a run's journal, and empty directories above it up to `base`.
pub fn remove_run(directory: &Path, base: &Path) {
    remove_tree(directory, journal::FILE, base);
    remove_empty_runs(base);
}

/// Removes the directories of runs that were killed before they had a journal, or when it was removed.
pub fn remove_empty_runs(base: &Path) {
    let runs = base.join("runs");
    for entry in fs::read_dir(&runs).into_iter().flatten().flatten() {
        // Only empty ones go.
        let _ = fs::remove_dir(entry.path());
    }
    remove_empty(&runs, base);
}

/// Removes a directory, last the file that says what it is: what a killed process leaves of it can be removed too.
fn remove_tree(directory: &Path, last: &str, base: &Path) {
    let removed =
        empty(directory, last).and_then(|()| match fs::remove_file(directory.join(last)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(directory = %directory.display(), %error, "cannot remove a folder");
    }
    remove_empty(directory, base);
}

/// Removes what a directory holds, but for one file.
fn empty(directory: &Path, but: &str) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name() == but {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes a directory and those above it up to `base`, as long as they are empty.
fn remove_empty(directory: &Path, base: &Path) {
    for directory in directory.ancestors().take_while(|directory| directory.starts_with(base)) {
        let removed = fs::remove_dir(directory);
        if removed.is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
            break;
        }
    }
}

/// A directory that cannot be created.
pub(crate) fn cannot_make(directory: &Path, error: &io::Error) -> Error {
    cannot("create the directory", directory, error)
}

/// What cannot be done to a file or directory of a build: `cannot <action> <path>`.
pub(crate) fn cannot(action: &str, path: &Path, error: &io::Error) -> Error {
    let made =
        Error::new(Stage::Disk, format!("cannot {action} `{}`", path.display())).because(error);
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            made.hint("free some space, or set ARTIFACTS_DIR and IMAGE_DIR to a larger file system")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            made.hint("set ARTIFACTS_DIR and IMAGE_DIR to directories this user may write to")
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            made.hint("set ARTIFACTS_DIR and IMAGE_DIR to other directories")
        }
        _ => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_folders_are_emptied_and_removed() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("x/y");
        drop(Claim::take(&directory).unwrap());
        fs::write(directory.join("old"), "").unwrap();
        let claim = Claim::take(&directory).unwrap();
        assert!(!directory.join("old").exists());
        claim.remove(&base.path().join("x"));
        assert!(!base.path().join("x").exists() && base.path().exists());

        let foreign = base.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("precious"), "").unwrap();
        assert!(Claim::take(&foreign).unwrap_err().message.contains("somebody else"));
        assert!(foreign.join("precious").exists());
    }

    #[test]
    fn what_a_killed_remover_left_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("x/y");
        drop(Claim::take(&directory).unwrap());
        fs::remove_file(directory.join(MARKER)).unwrap();
        fs::write(directory.join("precious"), "").unwrap();
        remove_left(&directory, &base.path().join("x"));
        assert!(directory.join("precious").exists());
        fs::remove_file(directory.join("precious")).unwrap();
        remove_left(&directory, &base.path().join("x"));
        assert!(!base.path().join("x").exists() && base.path().exists());
    }

    #[test]
    fn two_builds_do_not_work_in_one_folder() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("x");
        let first = Claim::take(&directory).unwrap();
        fs::write(directory.join("disk.raw"), "").unwrap();
        assert!(Claim::take(&directory).unwrap_err().message.contains("another build"));
        assert!(directory.join("disk.raw").exists());
        drop(first);
        assert!(Claim::take(&directory).is_ok());
    }

    #[test]
    fn an_error_says_what_could_not_be_done_and_a_hint_fits_the_reason() {
        let path = Path::new("/d/x.raw");
        for (errno, hint) in [
            (Errno::NOSPC, Some("free some space")),
            (Errno::ACCESS, Some("may write to")),
            (Errno::NOENT, Some("other directories")),
            (Errno::IO, None),
        ] {
            let error = cannot("sync", path, &io::Error::from_raw_os_error(errno.raw_os_error()));
            assert_eq!(error.message, "cannot sync `/d/x.raw`");
            let found = error.hint.unwrap_or_default();
            assert!(hint.map_or(found.is_empty(), |hint| found.contains(hint)), "{found}");
        }
    }
}
