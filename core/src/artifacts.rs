//! Folders of a build's files: made with a marker, removed only when they carry it; and how files are put into
//! them, so that a link in their place is never followed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{fs::OFlags, io::Errno};

use crate::error::{Error, Result, Stage};

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
        let lock = lock(folder)?;
        let failed = |error: io::Error| cannot_make(folder, &error);
        let entries: Vec<_> = fs::read_dir(folder).and_then(Iterator::collect).map_err(failed)?;
        if !entries.is_empty() && !is_marked(folder) {
            return Err(Error::new(
                Stage::Disk,
                format!("the artifacts folder `{}` holds files of somebody else", folder.display()),
            )
            .hint("set ARTIFACTS_DIR to another folder"));
        }
        for entry in entries {
            let path = entry.path();
            let removed = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(failed)?;
        }
        write_whole(&folder.join(MARKER), VERSION.as_bytes()).map_err(failed)?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// Claims the folder of an earlier process of the same run, with what is in it.
    ///
    /// # Errors
    /// When another build works in it.
    pub fn keep(folder: &Path) -> Result<Self> {
        let lock = lock(folder)?;
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
        remove_tree(&self.folder, base);
    }
}

/// Removes the folder of a build that is over, unless another build works in it by now.
pub fn remove_left(folder: &Path, base: &Path) {
    if !is_marked(folder) {
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
    let make = || {
        folder.parent().map_or(Ok(()), fs::create_dir_all)?;
        DirBuilder::new().mode(0o700).create(folder)
    };
    // Another build may remove the folder above, which is empty, at any moment.
    let mut made = make();
    for _ in 0..100 {
        if !made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            break;
        }
        made = make();
    }
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let found = folder.symlink_metadata()?.file_type();
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

/// Writes a file, complete or not at all. What stands in its place is replaced; a link is not followed.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(".")
        .suffix(".part")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(content)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Makes the folder and locks it. A folder that was removed by its last user meanwhile is made again.
fn lock(folder: &Path) -> Result<File> {
    let failed = |error: io::Error| cannot_make(folder, &error);
    loop {
        make_private(folder).map_err(failed)?;
        let opened = match File::open(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(failed)?,
        };
        match opened.try_lock() {
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
    remove_tree(folder, base);
}

fn remove_tree(folder: &Path, base: &Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot remove a folder");
    }
    for parent in folder.ancestors().skip(1).take_while(|parent| parent.starts_with(base)) {
        if fs::remove_dir(parent).is_err() {
            break;
        }
    }
}

/// A folder that cannot be made or used.
pub(crate) fn cannot_make(folder: &Path, error: &io::Error) -> Error {
    Error::new(Stage::Disk, format!("cannot make the folder `{}`", folder.display()))
        .because(error)
        .hint("set ARTIFACTS_DIR and IMAGE_DIR to folders this user may write to")
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
}
