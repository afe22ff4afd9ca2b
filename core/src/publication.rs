//! Publishes a build's files into IMAGE_DIR together: all files are first written into a staging directory on
//! the same file system, and moved to their final names when the build is released.
//!
//! ```text
//! IMAGE_DIR/.build-image-<run>/    the files of one run, until the release
//!     .build-image.owner.json      the run and its stem; locked while a process works on it
//! IMAGE_DIR/.build-image.lock      exists while a process begins or commits
//! ```
//!
//! A failed or killed build leaves every file of an older build as it was. [`Publication::commit`] is the only
//! place that changes final names; it needs the journal's list of files and finishes the work of a killed
//! process.

mod staging;
mod translation;

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, Metadata},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Component, Path, PathBuf},
};

use build_image_files::{abandoned, sync_directory};
use serde::{Deserialize, Serialize};

use self::staging::{
    LOCK, OWNER, Owner, PREFIX, check_own, claim, lock_directory, open_unfollowed, refuse_second,
    remove_staging, staging,
};
pub use self::translation::Translation;
use crate::{
    artifacts::{cannot, cannot_make},
    error::{Error, Result, Stage},
    settings::keys::IMAGE_DIR,
    signature::Algorithm,
};

/// Suffixes of the checksum files of an image.
const DIGESTS: [&str; 2] = [".md5", ".sha256"];
/// Suffix of the script that uploads an image.
pub(crate) const SCRIPT: &str = ".upload.sh";

/// A run's staging directory in IMAGE_DIR, claimed by this process.
#[derive(Debug)]
pub struct Publication {
    image_dir: PathBuf,
    staging: PathBuf,
    /// Its lock shows that the run is alive.
    _owner: File,
}

/// A file in the staging directory that is to be published. A later process recognises it under its final name
/// by its inode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedFile {
    /// Its final name in IMAGE_DIR.
    pub name: String,
    /// Device; not compared, since its number changes when a host restarts.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Length, bytes.
    pub len: u64,
    /// Identifies the file of an earlier build that has this name at the time of the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

/// The result of publishing the files of a released run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The files have their final names.
    Published(Vec<PathBuf>),
    /// Another build or the user has changed files of these names since the release: nothing is published.
    Superseded,
}

impl Publication {
    /// Creates the staging directory of a run that writes `stem`, and IMAGE_DIR if it is missing.
    ///
    /// # Errors
    /// When another running build writes the same stem here, which the error names; when the directory cannot
    /// be created, or its file system does not support locks.
    pub fn begin(image_dir: &Path, stem: &str, run_id: &str) -> Result<Self> {
        Self::open(image_dir, stem, run_id, |staging| {
            DirBuilder::new()
                .mode(0o700)
                .create(staging)
                .map_err(|error| cannot_make(staging, &error))
        })
    }

    /// Claims the staging directory of a resumed run, with its contents; a missing one is created.
    ///
    /// # Errors
    /// As [`Publication::begin`], and when another process works on the run.
    pub fn reopen(image_dir: &Path, stem: &str, run_id: &str) -> Result<Self> {
        Self::open(image_dir, stem, run_id, |staging| {
            match DirBuilder::new().mode(0o700).create(staging) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_own(staging),
                made => made.map_err(|error| cannot_make(staging, &error)),
            }
        })
    }

    fn open(
        image_dir: &Path,
        stem: &str,
        run_id: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        let image_dir = normalised(image_dir);
        let staging = staging(&image_dir, run_id)?;
        fs::create_dir_all(&image_dir).map_err(|error| cannot_make(&image_dir, &error))?;
        let _alone = lock_directory(&image_dir)?;
        refuse_second(&image_dir, stem, run_id)?;
        make(&staging)?;
        let owner = Owner { stem: stem.to_owned(), run: run_id.to_owned() };
        let owner = claim(&staging, &owner).inspect_err(|_| {
            // Succeeds only if it is empty.
            let _ = fs::remove_dir(&staging);
        })?;
        Ok(Self { image_dir, staging, _owner: owner })
    }

    /// The staging directory: everything that writes files for this run uses it as IMAGE_DIR.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.staging
    }

    /// Removes the contents of the staging directory.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn clear(&self) -> Result<()> {
        let clear_error = |error: io::Error| cannot("empty the directory", &self.staging, &error);
        for entry in fs::read_dir(&self.staging).map_err(clear_error)? {
            let entry = entry.map_err(clear_error)?;
            if entry.file_name() == OWNER {
                continue;
            }
            let is_dir = entry.file_type().map_err(clear_error)?.is_dir();
            let path = entry.path();
            if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) }
                .map_err(clear_error)?;
        }
        Ok(())
    }

    /// Returns every file of the set, synced to the disk, in the order in which they get their names: images,
    /// then checksums and signatures, then scripts.
    ///
    /// # Errors
    /// When an entry is not a file, or a file is still being written or cannot be synced.
    pub fn files(&self) -> Result<Vec<PublishedFile>> {
        let mut files = Vec::new();
        for (name, found) in self.entries()? {
            let path = self.staging.join(&name);
            let synced = open_unfollowed(&path).and_then(|file| file.sync_all());
            synced.map_err(|error| cannot("sync", &path, &error))?;
            files.push(PublishedFile {
                name,
                dev: found.dev(),
                ino: found.ino(),
                len: found.len(),
                replaces: None,
            });
        }
        let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
        let rank = |name: &str| match image_of(name, &names) {
            Some(_) => 1,
            None if name.ends_with(SCRIPT) => 2,
            None => 0,
        };
        files.sort_by_cached_key(|file| (rank(&file.name), file.name.clone()));
        for file in &mut files {
            file.replaces = mark(&self.image_dir.join(&file.name));
        }
        Ok(files)
    }

    /// Refuses to publish over an input of the build, once the names of all files are known.
    ///
    /// # Errors
    /// When a final name leads to one of the inputs.
    pub fn check_inputs(&self, inputs: &[PathBuf]) -> Result<()> {
        let names: Vec<String> = self.entries()?.into_iter().map(|(name, _)| name).collect();
        Self::check_names(&self.image_dir, &names, inputs)
    }

    /// Refuses names in IMAGE_DIR that lead to an input of the build, also through links; for names that are
    /// known before the files exist.
    ///
    /// # Errors
    /// When one of the names leads to one of the inputs.
    pub fn check_names(image_dir: &Path, names: &[String], inputs: &[PathBuf]) -> Result<()> {
        let identity =
            |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        for target in names.iter().map(|name| image_dir.join(name)) {
            if fs::symlink_metadata(&target).is_ok_and(|found| found.is_dir()) {
                let error = io::ErrorKind::IsADirectory.into();
                return Err(cannot("replace", &target, &error)
                    .hint(format!("remove the directory, or set {IMAGE_DIR} to another one")));
            }
            let Some(target_id) = identity(&target) else { continue };
            if let Some(input) = inputs.iter().find(|input| identity(input) == Some(target_id)) {
                let (target, input) = (target.display(), input.display());
                let text = format!("the image `{target}` would replace the input `{input}`");
                return Err(Error::new(Stage::Settings, text)
                    .hint(format!("set {IMAGE_DIR} to another directory, or rename the input")));
            }
        }
        Ok(())
    }

    /// Moves the files of a run to their final names and removes the staging directory. Checksums and
    /// signatures of an older image that the set does not replace are removed. After a kill or a failure,
    /// another call finishes the work; when another build has published files of these names since the release,
    /// nothing is published.
    ///
    /// # Errors
    /// When a directory has a file's name, or the file cannot be renamed. Then every name leads to the same
    /// file as before, if the file system can exchange two files.
    pub fn commit(image_dir: &Path, run_id: &str, files: &[PublishedFile]) -> Result<Committed> {
        let image_dir = normalised(image_dir);
        let staging = staging(&image_dir, run_id)?;
        if fs::symlink_metadata(&image_dir).is_err() {
            return Ok(Committed::Superseded);
        }
        let _alone = lock_directory(&image_dir)?;
        let mut swaps = Vec::new();
        for file in files {
            check_name(&file.name)?;
            let (staged, target) = (staging.join(&file.name), image_dir.join(&file.name));
            if file.is_at(&target)? {
                continue;
            }
            if fs::symlink_metadata(&target).is_ok_and(|found| found.is_dir()) {
                let error = io::ErrorKind::IsADirectory.into();
                return Err(cannot("replace", &target, &error)
                    .hint(format!("remove the directory, or set {IMAGE_DIR} to another one")));
            }
            let now = mark(&target);
            if !file.is_at(&staged)? || now.is_some() && now != file.replaces {
                remove_staging(&staging)?;
                return Ok(Committed::Superseded);
            }
            swaps.push(Swap { staged, target, exchanges: now.is_some() });
        }
        let outdated = outdated(&image_dir, files);
        // Before any file is renamed: a set is not complete with a file of an older set beside it.
        if let Some(path) = outdated.iter().find(|path| path.is_dir() && !path.is_symlink()) {
            let error = io::ErrorKind::IsADirectory.into();
            return Err(cannot("remove", path, &error)
                .hint(format!("remove the directory, or set {IMAGE_DIR} to another one")));
        }
        for (number, swap) in swaps.iter().enumerate() {
            if let Err(error) = swap.make() {
                for made in swaps[..number].iter().rev() {
                    made.undo();
                }
                return Err(cannot("write", &swap.target, &error));
            }
        }
        remove_outdated(&outdated)?;
        sync_directory(&image_dir).map_err(|error| cannot("sync", &image_dir, &error))?;
        remove_staging(&staging)?;
        Ok(Committed::Published(files.iter().map(|file| image_dir.join(&file.name)).collect()))
    }

    /// Returns whether the staging directory of a run exists: its files are not all published, or not removed.
    #[must_use]
    pub fn is_pending(image_dir: &Path, run_id: &str) -> bool {
        staging(&normalised(image_dir), run_id)
            .is_ok_and(|staging| fs::symlink_metadata(staging).is_ok())
    }

    /// Path of the staging directory of a run.
    ///
    /// # Errors
    /// When the run's identifier is invalid.
    pub fn staging_of(image_dir: &Path, run_id: &str) -> Result<PathBuf> {
        staging(&normalised(image_dir), run_id)
    }

    /// Returns the first file in IMAGE_DIR that has the name of an image, or that of one of its checksums and signatures.
    #[must_use]
    pub fn existing(image_dir: &Path, image: &str) -> Option<PathBuf> {
        let of_image = companions().map(|ending| format!("{image}{ending}"));
        let mut names = std::iter::once(image.to_owned()).chain(of_image);
        names.find_map(|name| Some(image_dir.join(name)).filter(|path| is_there(path)))
    }

    /// Returns the files in IMAGE_DIR that publishing these files replaces or removes.
    #[must_use]
    pub fn replaced(&self, files: &[PublishedFile]) -> Vec<PathBuf> {
        let same = files.iter().filter(|file| file.replaces.is_some());
        let mut paths: Vec<PathBuf> = same.map(|file| self.image_dir.join(&file.name)).collect();
        paths.extend(outdated(&self.image_dir, files).into_iter().filter(|path| is_there(path)));
        paths
    }

    /// The final path of a staged file.
    #[must_use]
    pub fn final_path(&self, staged: &Path) -> PathBuf {
        match staged.strip_prefix(&self.staging) {
            Ok(name) => self.image_dir.join(name),
            Err(_) => staged.to_owned(),
        }
    }

    /// Removes the staging directory of a run and nothing else. A missing directory is not an error.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn discard(image_dir: &Path, run_id: &str) -> Result<()> {
        let image_dir = normalised(image_dir);
        remove_staging(&staging(&image_dir, run_id)?)?;
        Self::remove_stale_lock(&image_dir);
        Ok(())
    }

    /// Removes the lock file that a killed process left in IMAGE_DIR, if any; the lock of a running process is
    /// kept.
    pub fn remove_stale_lock(image_dir: &Path) {
        let image_dir = normalised(image_dir);
        if fs::symlink_metadata(image_dir.join(LOCK)).is_ok() {
            // Taking and releasing the lock removes its file.
            let _ = lock_directory(&image_dir);
        }
    }

    /// How texts name the files, before and after they are published.
    #[must_use]
    pub fn translation(&self) -> Translation {
        Translation { image_dir: self.image_dir.clone(), staging: self.staging.clone() }
    }

    /// Files in the staging directory, by name.
    fn entries(&self) -> Result<Vec<(String, Metadata)>> {
        let read_error = |error: io::Error| cannot("read", &self.staging, &error);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.staging).map_err(read_error)? {
            let entry = entry.map_err(read_error)?;
            let name = entry.file_name();
            if name == OWNER || is_abandoned(&name, &entry.path())? {
                continue;
            }
            let entry_error = |what: &str| {
                let text = format!("`{}` {what}", entry.path().display());
                Error::new(Stage::Disk, text)
                    .hint("publish regular files only; report it to the author of the provider")
            };
            let metadata = fs::symlink_metadata(entry.path()).map_err(read_error)?;
            if !metadata.is_file() {
                return Err(entry_error("is not a regular file"));
            }
            let name =
                name.into_string().map_err(|_| entry_error("has a name that is not UTF-8"))?;
            found.push((name, metadata));
        }
        found.sort_by(|(left, _), (right, _)| left.cmp(right));
        Ok(found)
    }
}

impl PublishedFile {
    fn is_at(&self, path: &Path) -> Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(found) => Ok(found.is_file() && (found.ino(), found.len()) == (self.ino, self.len)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(cannot("read", path, &error)),
        }
    }
}

/// A staged file and its final name.
struct Swap {
    staged: PathBuf,
    target: PathBuf,
    /// An earlier build's file has the name; it is exchanged with the staged file and removed with the staging
    /// directory.
    exchanges: bool,
}

impl Swap {
    fn make(&self) -> io::Result<()> {
        use rustix::{
            fs::{CWD, RenameFlags, renameat_with},
            io::Errno,
        };
        // Without an older file: one that another program has put there since stays.
        let flags = if self.exchanges { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        match renameat_with(CWD, &self.staged, CWD, &self.target, flags) {
            // The file system or kernel does not support the flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                fs::rename(&self.staged, &self.target)
            }
            made => made.map_err(io::Error::from),
        }
    }

    /// Reverts the renaming, if the older file still exists.
    fn undo(&self) {
        let exchanged = self.exchanges && fs::symlink_metadata(&self.staged).is_ok();
        let undone = match (exchanged, self.exchanges) {
            (true, _) => self.make(),
            (false, false) => fs::rename(&self.target, &self.staged),
            (false, true) => Ok(()),
        };
        if let Err(error) = undone {
            tracing::warn!(file = %self.target.display(), %error, "an older file is not back");
        }
    }
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Identifies the file at a path, so that it is recognised later; `None` if it does not exist.
fn mark(path: &Path) -> Option<String> {
    let found = fs::symlink_metadata(path).ok()?;
    Some(format!("{}:{}:{}", found.ino(), found.mtime(), found.mtime_nsec()))
}

/// Refuses names that lead out of IMAGE_DIR or to a file of this module.
fn check_name(name: &str) -> Result<()> {
    let mut parts = Path::new(name).components();
    let single = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    if single && !name.ends_with('/') && name != LOCK && !name.starts_with(PREFIX) {
        return Ok(());
    }
    Err(Error::new(Stage::Bug, format!("`{name}` is not the name of a published file")))
}

fn normalised(image_dir: &Path) -> PathBuf {
    let path: PathBuf = image_dir.components().collect();
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}

/// Removes an unfinished file of a killed process; returns whether it was one.
fn is_abandoned(name: &OsStr, path: &Path) -> Result<bool> {
    if !abandoned::is_temporary(name) {
        return Ok(false);
    }
    match abandoned::remove_one(path) {
        Ok(true) => Ok(true),
        Ok(false) => {
            let text = format!("`{}` is still being written", path.display());
            Err(Error::new(Stage::Disk, text))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(cannot("remove", path, &error)),
    }
}

/// Suffixes of the companions of an image: checksums and signatures.
fn companions() -> impl Iterator<Item = String> {
    let signatures = Algorithm::of_signatures().map(Algorithm::signature_suffix);
    DIGESTS.map(str::to_owned).into_iter().chain(signatures)
}

/// Returns the image that a checksum or signature belongs to, if both are in the set.
fn image_of<'a>(name: &str, names: &'a [String]) -> Option<&'a String> {
    companions().find_map(|ending| {
        let image = name.strip_suffix(&ending)?;
        names.iter().find(|other| *other == image)
    })
}

/// Removes these checksums and signatures of older images.
fn remove_outdated(outdated: &[PathBuf]) -> Result<()> {
    for path in outdated {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(cannot("remove", path, &error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Returns the paths of possible companions of the images that the new set does not contain.
fn outdated(image_dir: &Path, files: &[PublishedFile]) -> Vec<PathBuf> {
    let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    let images = names.iter().filter(|name| image_of(name, &names).is_none());
    let companions = images
        .filter(|name| !name.ends_with(SCRIPT))
        .flat_map(|name| companions().map(move |ending| format!("{name}{ending}")));
    companions.filter(|name| !names.contains(name)).map(|name| image_dir.join(name)).collect()
}

#[cfg(test)]
mod tests;
