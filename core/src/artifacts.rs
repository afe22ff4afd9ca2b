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

/// File that marks a folder as made by this tool; its content is the tool's version.
const MARKER: &str = "generator-info.json";
/// Content of the marker.
const VERSION: &str = concat!("{\"VERSION\":\"", env!("CARGO_PKG_VERSION"), "\"}\n");

/// What is wrong with a link that somebody put where a build will write.
const LINK: &str = "a link stands in its place, which is not followed";

/// A build's folder, claimed by this process: no other build works in it.
#[derive(Debug)]
pub struct Claim {
    folder: PathBuf,
    /// Its lock ends when it is closed.
    _lock: File,
}

impl Claim {
    /// Makes the folder of a build, or empties an earlier build's.
    ///
    /// # Errors
    /// When it cannot be made, another build works in it, or it holds files of somebody else.
    pub fn take(folder: &Path) -> Result<Self> {
        let lock = lock_of(folder)?;
        let failed = |error: io::Error| cannot("prepare the directory", folder, &error);
        let is_empty = fs::read_dir(folder).map_err(failed)?.next().is_none();
        if !is_empty && !is_marked(folder) {
            return Err(Error::new(
                Stage::Disk,
                format!("the artifacts folder `{}` holds files of somebody else", folder.display()),
            )
            .hint("set ARTIFACTS_DIR to another folder"));
        }
        empty(folder, MARKER).map_err(failed)?;
        // Never under another name: a folder that is not empty and has no marker is somebody else's.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o644);
        open_unlinked(&mut options, &folder.join(MARKER))
            .and_then(|mut marker| marker.write_all(VERSION.as_bytes()))
            .map_err(failed)?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// Claims the folder of an earlier process of the same run, with what is in it.
    ///
    /// # Errors
    /// When another build works in it.
    pub fn keep(folder: &Path) -> Result<Self> {
        let lock = lock_of(folder)?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// Claims the folder of an earlier build of the same thing, with what is in it; nothing when there is
    /// none, or another version of this tool made it.
    ///
    /// # Errors
    /// When another build works in it.
    pub fn earlier(folder: &Path) -> Result<Option<Self>> {
        if !fs::read_to_string(folder.join(MARKER)).is_ok_and(|text| text == VERSION) {
            return Ok(None);
        }
        Self::keep(folder).map(Some)
    }

    /// Removes the folder, and folders above it up to `base` that are empty then.
    pub fn remove(self, base: &Path) {
        remove_tree(&self.folder, MARKER, base);
    }
}

/// Removes the folder of a build that is over, unless another build works in it by now.
pub fn remove_left(folder: &Path, base: &Path) {
    if !is_marked(folder) {
        // Whoever removed it was killed before the folder itself went.
        remove_empty(folder, base);
        return;
    }
    match Claim::keep(folder) {
        Ok(claim) => claim.remove(base),
        Err(error) => tracing::info!(folder = %folder.display(), %error, "left alone"),
    }
}

fn is_marked(folder: &Path) -> bool {
    folder.join(MARKER).symlink_metadata().is_ok_and(|found| found.is_file())
}

/// Makes a folder that only its owner looks into, and those above it as the mask of this process allows. One that is
/// there stays as it is.
///
/// # Errors
/// When it cannot be made, or something else stands in its place: a link too, which leads elsewhere.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    let attempt = || {
        folder.parent().map_or(Ok(()), fs::create_dir_all)?;
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        folder.symlink_metadata()
    };
    // Another build may remove the folder above, or this one while it is empty, at any moment.
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

/// Makes the folder and locks it. A folder that was removed by its last user meanwhile is made again.
fn lock_of(folder: &Path) -> Result<File> {
    let failed = |error: io::Error| cannot("lock the directory", folder, &error);
    loop {
        make_private(folder).map_err(|error| cannot_make(folder, &error))?;
        let opened = match File::open(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(failed)?,
        };
        match lock::take(&opened) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    Stage::Disk,
                    format!("another build works in the artifacts folder `{}`", folder.display()),
                )
                .hint("wait until it is done, or set ARTIFACTS_DIR to another folder"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mine = opened.metadata().map_err(failed)?;
        if fs::metadata(folder).is_ok_and(|now| (now.dev(), now.ino()) == (mine.dev(), mine.ino()))
        {
            return Ok(opened);
        }
    }
}

/// Removes the folder of a run's journal, and empty folders above it up to `base`.
pub fn remove_run(folder: &Path, base: &Path) {
    remove_tree(folder, journal::FILE, base);
    remove_empty_runs(base);
}

/// Removes the folders of runs that were killed before they had a journal, or when it was removed.
pub fn remove_empty_runs(base: &Path) {
    let runs = base.join("runs");
    for entry in fs::read_dir(&runs).into_iter().flatten().flatten() {
        // Only empty ones go.
        let _ = fs::remove_dir(entry.path());
    }
    remove_empty(&runs, base);
}

/// Removes a folder, last the file that says what it is: what a killed process leaves of it can be removed too.
fn remove_tree(folder: &Path, last: &str, base: &Path) {
    let removed = empty(folder, last).and_then(|()| match fs::remove_file(folder.join(last)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    });
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot remove a folder");
    }
    remove_empty(folder, base);
}

/// Removes what a folder holds, but for one file.
fn empty(folder: &Path, but: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
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

/// Removes a folder and those above it up to `base`, as long as they are empty.
fn remove_empty(folder: &Path, base: &Path) {
    for folder in folder.ancestors().take_while(|folder| folder.starts_with(base)) {
        let removed = fs::remove_dir(folder);
        if removed.is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
            break;
        }
    }
}

/// A directory that cannot be created.
pub(crate) fn cannot_make(folder: &Path, error: &io::Error) -> Error {
    cannot("create the directory", folder, error)
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
        let folder = base.path().join("x/y");
        drop(Claim::take(&folder).unwrap());
        fs::write(folder.join("old"), "").unwrap();
        let claim = Claim::take(&folder).unwrap();
        assert!(!folder.join("old").exists());
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
        let folder = base.path().join("x/y");
        drop(Claim::take(&folder).unwrap());
        fs::remove_file(folder.join(MARKER)).unwrap();
        fs::write(folder.join("precious"), "").unwrap();
        remove_left(&folder, &base.path().join("x"));
        assert!(folder.join("precious").exists());
        fs::remove_file(folder.join("precious")).unwrap();
        remove_left(&folder, &base.path().join("x"));
        assert!(!base.path().join("x").exists() && base.path().exists());
    }

    #[test]
    fn two_builds_do_not_work_in_one_folder() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("x");
        let first = Claim::take(&folder).unwrap();
        fs::write(folder.join("disk.raw"), "").unwrap();
        assert!(Claim::take(&folder).unwrap_err().message.contains("another build"));
        assert!(folder.join("disk.raw").exists());
        drop(first);
        assert!(Claim::take(&folder).is_ok());
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
