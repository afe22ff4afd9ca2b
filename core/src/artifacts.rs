//! Creates, claims and removes the directories of a build's files. A directory is created with a marker, and removed
//! only when it has one. Files are written into it without ever following a link in their place.

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
    settings::{
        Key,
        keys::{ARTIFACTS_DIR, IMAGE_DIR},
    },
    trust::read_regular,
};

/// File that marks a directory as created by this tool; it contains the tool's version.
const MARKER: &str = "generator-info.json";
/// Content of the marker.
const VERSION: &str = concat!("{\"VERSION\":\"", env!("CARGO_PKG_VERSION"), "\"}\n");

/// The reason for refusing a link at a path that a build will write to.
const LINK: &str = "a link stands in its place, which is not followed";

/// File that names the run that uses a directory.
const RUN: &str = ".build-image.run";
/// Maximum length of that name, bytes.
const RUN_LIMIT: u64 = 256;

/// A build's directory, claimed by this process: no other build uses it.
#[derive(Debug)]
pub struct Claim {
    directory: PathBuf,
    /// File that names the run; removed with the claim.
    run: Option<PathBuf>,
    /// Closing it releases the lock.
    _lock: File,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(run) = &self.run {
            // A file that stays has no effect without the lock.
            let _ = fs::remove_file(run);
        }
    }
}

impl Claim {
    /// Creates the directory of a run, or empties an earlier build's. `inputs` are the files the image is made of.
    ///
    /// # Errors
    /// When it cannot be created, another build uses it, it belongs to another user, or it contains an input or files
    /// that a build did not create.
    pub fn take(directory: &Path, run: &str, inputs: &[PathBuf]) -> Result<Self> {
        let lock = lock_of(directory)?;
        let cannot_prepare = |error: io::Error| cannot("prepare the directory", directory, &error);
        let is_empty = fs::read_dir(directory).map_err(cannot_prepare)?.next().is_none();
        if !is_empty && !is_marked(directory) {
            return Err(Error::new(
                Stage::Disk,
                format!(
                    "the artifacts directory `{}` holds files of another origin",
                    directory.display()
                ),
            )
            .hint(format!("set {ARTIFACTS_DIR} to another directory")));
        }
        refuse_inputs(directory, inputs)?;
        empty(directory, MARKER).map_err(cannot_prepare)?;
        // Never through a link or hard link: a directory that is not empty and has no marker was not created by this
        // tool.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o644);
        open_unlinked(&mut options, &directory.join(MARKER))
            .and_then(|mut marker| marker.write_all(VERSION.as_bytes()))
            .map_err(cannot_prepare)?;
        Self::of(directory, Some(run), lock)
    }

    /// Records which run holds the lock.
    fn of(directory: &Path, run: Option<&str>, lock: File) -> Result<Self> {
        let path = directory.join(RUN);
        if let Some(run) = run {
            // A file that a killed process left, or a hard link to another file, is not written to.
            let _ = fs::remove_file(&path);
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o644);
            open_unlinked(&mut options, &path)
                .and_then(|mut file| file.write_all(run.as_bytes()))
                .map_err(|error| cannot("write", &path, &error))?;
        }
        Ok(Self { directory: directory.to_owned(), run: run.map(|_| path), _lock: lock })
    }

    /// Claims the directory of an earlier process of the same run, with its content.
    ///
    /// # Errors
    /// When another build uses it, or it belongs to another user.
    pub fn keep(directory: &Path, run: &str) -> Result<Self> {
        Self::of(directory, Some(run), lock_of(directory)?)
    }

    /// Claims the directory of an earlier build of the same image, with its content; returns `None` when it does not
    /// exist, or another version of this tool created it.
    ///
    /// # Errors
    /// When another build uses it, or it belongs to another user.
    pub fn earlier(directory: &Path, run: &str) -> Result<Option<Self>> {
        if !fs::read_to_string(directory.join(MARKER)).is_ok_and(|text| text == VERSION) {
            return Ok(None);
        }
        Self::keep(directory, run).map(Some)
    }

    /// Removes the directory, and directories above it up to `base` that are then empty.
    pub fn remove(mut self, base: &Path) {
        // The file is removed with the directory, which another build may create again at once.
        self.run = None;
        remove_tree(&self.directory, MARKER, base);
    }
}

/// Removes the directory of a build that has ended, unless another build uses it in the meantime.
pub fn remove_left(directory: &Path, base: &Path) {
    if !is_marked(directory) {
        // A remover was killed before it removed the directory itself.
        remove_empty(directory, base);
        return;
    }
    match lock_of(directory).and_then(|lock| Claim::of(directory, None, lock)) {
        Ok(claim) => claim.remove(base),
        Err(error) => tracing::info!(directory = %directory.display(), %error, "left alone"),
    }
}

fn is_marked(directory: &Path) -> bool {
    directory.join(MARKER).symlink_metadata().is_ok_and(|found| found.is_file())
}

/// Creates a directory that only its owner can access, and missing parent directories with the umask of this process.
/// An existing directory is not changed.
///
/// # Errors
/// When it cannot be created, or its path is not a directory; a link to a directory is refused too.
pub(crate) fn make_private(directory: &Path) -> io::Result<()> {
    let attempt = || {
        directory.parent().map_or(Ok(()), fs::create_dir_all)?;
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        directory.symlink_metadata()
    };
    // Another build may remove the parent directory, or this directory while it is empty, at any moment.
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

/// Opens a file for writing without following a link.
///
/// # Errors
/// When it cannot be opened, or its path is a link.
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

/// Writes a file completely or not at all, also when the power fails. An existing file is replaced; a link is
/// replaced, not followed.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::with_mode(path, 0o644)?;
    file.write_all(content)?;
    file.commit()
}

/// Creates the directory and locks it. If its last user removes it in the meantime, it is created again.
fn lock_of(directory: &Path) -> Result<File> {
    let lock_error = |error: io::Error| cannot("lock the directory", directory, &error);
    loop {
        make_private(directory).map_err(|error| cannot_make(directory, &error))?;
        let opened = match File::open(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(lock_error)?,
        };
        match lock::take(&opened) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let other = run_in(directory)
                    .map_or_else(|| "another build".to_owned(), |run| format!("build `{run}`"));
                let text =
                    format!("{other} works in the artifacts directory `{}`", directory.display());
                return Err(Error::new(Stage::InUse, text).hint(format!(
                    "wait until it is done, or set {ARTIFACTS_DIR} to another directory"
                )));
            }
            Err(TryLockError::Error(error)) => {
                return Err(cannot_lock("lock the directory", directory, &error, ARTIFACTS_DIR));
            }
        }
        let mine = opened.metadata().map_err(lock_error)?;
        let me = rustix::process::geteuid().as_raw();
        if mine.uid() != 0 && mine.uid() != me {
            let text = format!(
                "the artifacts directory `{}` belongs to user id {}",
                directory.display(),
                mine.uid()
            );
            return Err(Error::new(Stage::Disk, text)
                .hint(format!("remove it, or set {ARTIFACTS_DIR} to another directory")));
        }
        if fs::metadata(directory)
            .is_ok_and(|now| (now.dev(), now.ino()) == (mine.dev(), mine.ino()))
        {
            return Ok(opened);
        }
    }
}

/// Returns the run that is recorded as using a directory.
fn run_in(directory: &Path) -> Option<String> {
    let text = String::from_utf8(read_regular(&directory.join(RUN), RUN_LIMIT).ok()?).ok()?;
    let legal =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    (!text.is_empty() && text.chars().all(legal)).then_some(text)
}

/// Refuses to empty a directory that contains an input of the image.
fn refuse_inputs(directory: &Path, inputs: &[PathBuf]) -> Result<()> {
    let Ok(real) = fs::canonicalize(directory) else { return Ok(()) };
    let is_in =
        |input: &&PathBuf| fs::canonicalize(input).is_ok_and(|input| input.starts_with(&real));
    let Some(input) = inputs.iter().find(is_in) else { return Ok(()) };
    let text = format!(
        "the artifacts directory `{}` holds the input `{}`, and would be emptied",
        directory.display(),
        input.display()
    );
    Err(Error::new(Stage::Disk, text)
        .hint(format!("move the file to another directory, or set {ARTIFACTS_DIR} to one")))
}

/// Removes the directory of a run's journal, and empty directories above it up to `base`.
pub fn remove_run(directory: &Path, base: &Path) {
    remove_tree(directory, journal::FILE, base);
    remove_empty_runs(base);
}

/// Removes the directories of runs that were killed before they had a journal, or after it was removed.
pub fn remove_empty_runs(base: &Path) {
    let runs = base.join("runs");
    for entry in fs::read_dir(&runs).into_iter().flatten().flatten() {
        // Fails unless it is empty.
        let _ = fs::remove_dir(entry.path());
    }
    remove_empty(&runs, base);
}

/// Removes a directory; the file that identifies it is removed last, so that a killed removal can be repeated.
pub(crate) fn remove_tree(directory: &Path, last: &str, base: &Path) {
    let removed =
        empty(directory, last).and_then(|()| match fs::remove_file(directory.join(last)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(directory = %directory.display(), %error, "cannot remove a directory");
    }
    remove_empty(directory, base);
}

/// Removes the content of a directory except one file.
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

/// Removes a directory and its parents up to `base`, as long as they are empty.
fn remove_empty(directory: &Path, base: &Path) {
    for directory in directory.ancestors().take_while(|directory| directory.starts_with(base)) {
        let removed = fs::remove_dir(directory);
        if removed.is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
            break;
        }
    }
}

/// Returns the error for a directory that cannot be created.
pub(crate) fn cannot_make(directory: &Path, error: &io::Error) -> Error {
    cannot("create the directory", directory, error)
}

/// Returns the hint for a full file system; the setting names a directory or file on it.
pub(crate) fn more_space(setting: Key) -> String {
    format!("free some space, or set {setting} to a larger file system")
}

/// Returns the error for a file or directory that cannot be locked: `cannot <action> <path>`; `setting` names the
/// directory that contains it.
pub(crate) fn cannot_lock(action: &str, path: &Path, error: &io::Error, setting: Key) -> Error {
    let has_no_locks = [Errno::NOTSUP, Errno::NOLCK, Errno::NOSYS, Errno::INVAL]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
    let made = cannot(action, path, error);
    if has_no_locks {
        return made.hint(format!("set {setting} to a file system that supports locks (flock)"));
    }
    made
}

/// Returns the error for a failed action on a file or directory of a build: `cannot <action> <path>`.
pub(crate) fn cannot(action: &str, path: &Path, error: &io::Error) -> Error {
    let made =
        Error::new(Stage::Disk, format!("cannot {action} `{}`", path.display())).caused_by(error);
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => made.hint(format!(
            "free some space, or set {ARTIFACTS_DIR} and {IMAGE_DIR} to a larger file system"
        )),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => made.hint(format!(
            "set {ARTIFACTS_DIR} and {IMAGE_DIR} to directories this user may write to"
        )),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            made.hint(format!("set {ARTIFACTS_DIR} and {IMAGE_DIR} to other directories"))
        }
        _ => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_another_version_is_not_used_again() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("x/y");
        drop(Claim::take(&directory, "r-1", &[]).unwrap());
        fs::write(directory.join("disk.raw"), "").unwrap();
        assert!(Claim::earlier(&directory, "r-2").unwrap().is_some());
        let current = fs::read_to_string(directory.join(MARKER)).unwrap();
        let older = current.replace(env!("CARGO_PKG_VERSION"), "0.9.9");
        assert_ne!(older, current);
        fs::write(directory.join(MARKER), older).unwrap();
        assert!(Claim::earlier(&directory, "r-2").unwrap().is_none());
        drop(Claim::take(&directory, "r-2", &[]).unwrap());
        assert!(!directory.join("disk.raw").exists());
    }

    #[test]
    fn only_marked_directories_are_emptied_and_removed() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("x/y");
        drop(Claim::take(&directory, "r-1", &[]).unwrap());
        fs::write(directory.join("old"), "").unwrap();
        let claim = Claim::take(&directory, "r-1", &[]).unwrap();
        assert!(!directory.join("old").exists());
        claim.remove(&base.path().join("x"));
        assert!(!base.path().join("x").exists() && base.path().exists());

        let foreign = base.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("precious"), "").unwrap();
        assert!(Claim::take(&foreign, "r-1", &[]).unwrap_err().message.contains("another origin"));
        assert!(foreign.join("precious").exists());
    }

    #[test]
    fn the_rest_of_a_killed_removal_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("x/y");
        drop(Claim::take(&directory, "r-1", &[]).unwrap());
        fs::remove_file(directory.join(MARKER)).unwrap();
        fs::write(directory.join("precious"), "").unwrap();
        remove_left(&directory, &base.path().join("x"));
        assert!(directory.join("precious").exists());
        fs::remove_file(directory.join("precious")).unwrap();
        remove_left(&directory, &base.path().join("x"));
        assert!(!base.path().join("x").exists() && base.path().exists());
    }

    #[test]
    fn two_builds_do_not_work_in_one_directory() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("x");
        let first = Claim::take(&directory, "r-1", &[]).unwrap();
        fs::write(directory.join("disk.raw"), "").unwrap();
        assert!(
            Claim::take(&directory, "r-1", &[])
                .unwrap_err()
                .message
                .starts_with("build `r-1` works")
        );
        assert!(directory.join("disk.raw").exists());
        // The name in the error is a run's, whatever the file contains.
        fs::write(directory.join(RUN), "\u{1b}[2J").unwrap();
        let error = Claim::keep(&directory, "r-2").unwrap_err();
        assert!(error.message.starts_with("another build works"), "{error}");
        drop(first);
        assert!(!directory.join(RUN).exists());
        // A hard link to another file is not written through.
        let precious = base.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        fs::hard_link(&precious, directory.join(RUN)).unwrap();
        drop(Claim::keep(&directory, "r-3").unwrap());
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        assert!(Claim::take(&directory, "r-1", &[]).is_ok());
    }

    #[test]
    fn a_directory_with_an_input_of_the_build_is_not_emptied() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("x");
        drop(Claim::take(&directory, "r-1", &[]).unwrap());
        let input = directory.join("base.iso");
        fs::write(&input, "").unwrap();
        let linked = base.path().join("linked.iso");
        std::os::unix::fs::symlink(&input, &linked).unwrap();
        for input in [&input, &linked] {
            let error = Claim::take(&directory, "r-1", std::slice::from_ref(input)).unwrap_err();
            assert!(error.message.contains(&input.display().to_string()), "{error}");
            assert!(directory.join("base.iso").exists());
        }
        let elsewhere = [base.path().join("other.iso")];
        drop(Claim::take(&directory, "r-1", &elsewhere).unwrap());
        assert!(!input.exists());
    }

    #[test]
    fn a_file_system_without_locks_is_reported() {
        for (errno, hint) in [
            (Errno::NOLCK, "set ARTIFACTS_DIR to a file system that supports locks"),
            (Errno::NOTSUP, "set ARTIFACTS_DIR to a file system that supports locks"),
            (Errno::ACCESS, "may write to"),
        ] {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            let error = cannot_lock("lock", Path::new("/d/lock"), &error, ARTIFACTS_DIR);
            assert_eq!(error.message, "cannot lock `/d/lock`");
            assert!(error.hint.as_ref().is_some_and(|found| found.contains(hint)), "{error:?}");
        }
    }

    #[test]
    fn an_error_names_the_action_and_its_hint_fits_the_reason() {
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
