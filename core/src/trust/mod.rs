//! Decides whether others could have changed a file that is read: a file is trusted only if it and every
//! directory on its path belong to this user or to root, and only these may write to them.
//!
//! ```text
//! resolve.rs  the directories and links that determine which file a path leads to
//! acl.rs      readers and writers according to an access control list
//! group.rs    groups with a single user             regular.rs  opens files that may be pipes or devices
//! scope.rs    which local files of a run may be removed
//! ```

mod acl;
mod group;
mod regular;
mod resolve;
mod scope;

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

pub(crate) use regular::{open_regular, read_regular};
pub(crate) use resolve::{ResolvedPath, resolve_path};
pub use scope::Scope;
pub(crate) use scope::is_below;

/// A reason why another user may change a file, a directory or a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// The object that may be changed.
    pub(crate) object: PathBuf,
    /// Who may change it; a fragment that follows the object.
    pub(crate) why: String,
    /// How to correct it.
    pub(crate) hint: String,
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` {}", self.object.display(), self.why)
    }
}

/// Returns who else may change the file or directory at a path, or make the path lead elsewhere.
///
/// # Errors
/// When the path leads nowhere, or an object on it cannot be read.
pub(crate) fn doubt_of(path: &Path) -> io::Result<Option<Doubt>> {
    let resolved = resolve_path(path)?;
    match doubt_of_resolved(&resolved)? {
        None => doubt_of_path(&resolved.real),
        some => Ok(some),
    }
}

/// Returns who else may change an open file.
///
/// # Errors
/// When its owner, mode or access control list cannot be read.
pub(crate) fn doubt_of_file(file: &File, object: &Path) -> io::Result<Option<Doubt>> {
    Ok(doubt(object, &file.metadata()?, &acl::of_file(file)?))
}

/// Returns who else may change the object at a path; links are not followed.
///
/// # Errors
/// When its owner, mode or access control list cannot be read.
pub(crate) fn doubt_of_path(path: &Path) -> io::Result<Option<Doubt>> {
    let metadata = path.symlink_metadata()?;
    let acl = if metadata.is_symlink() { Vec::new() } else { acl::of_path(path)? };
    Ok(doubt(path, &metadata, &acl))
}

/// Returns who else may change which file a path leads to: through a directory or a link on the path.
///
/// # Errors
/// When the path leads nowhere, or an object on it cannot be read.
pub(crate) fn doubt_of_resolved(resolved: &ResolvedPath) -> io::Result<Option<Doubt>> {
    for object in &resolved.objects {
        if let Some(doubt) = doubt_of_path(object)? {
            return Ok(Some(doubt));
        }
    }
    Ok(None)
}

/// Returns whether a group or an access control list lets others read an open file.
///
/// # Errors
/// When its mode or access control list cannot be read.
pub(crate) fn has_other_readers(file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    let acl = acl::of_file(file)?;
    let by_group = metadata.mode() & 0o040 != 0 && !group::is_mine_alone(metadata.gid());
    let me = rustix::process::geteuid().as_raw();
    Ok(metadata.mode() & 0o004 != 0
        || if acl.is_empty() {
            by_group
        } else {
            acl::foreign_reader(&acl, metadata.gid(), me).is_some()
        })
}

/// Returns whether others may read or change a file with secrets, as a clause for messages. A directory on the
/// path that only its owner may enter protects the file.
///
/// # Errors
/// When it is not a regular file, or cannot be examined.
pub(crate) fn exposure(path: &Path) -> io::Result<Option<&'static str>> {
    let file = open_regular(path)?;
    let resolved = resolve_path(path)?;
    for directory in &resolved.objects {
        let metadata = directory.symlink_metadata()?;
        if metadata.is_dir() && metadata.mode() & 0o011 == 0 && acl::of_path(directory)?.is_empty()
        {
            return Ok(None);
        }
    }
    if doubt_of_file(&file, path)?.is_some() {
        return Ok(Some("others may change it"));
    }
    Ok(has_other_readers(&file)?.then_some("others may read it"))
}

fn doubt(object: &Path, metadata: &Metadata, acl: &[u8]) -> Option<Doubt> {
    let me = rustix::process::geteuid().as_raw();
    let made = |why: String, hint: String| Some(Doubt { object: object.to_owned(), why, hint });
    if metadata.uid() != 0 && metadata.uid() != me {
        return made(
            format!("belongs to user id {}", metadata.uid()),
            "it and its directories must belong to you or to root".to_owned(),
        );
    }
    let mode = metadata.mode();
    // The mode of a link lets all users write; its directory is what counts. In a sticky directory others may
    // add entries, but not change ours.
    if metadata.is_symlink() || metadata.is_dir() && mode & 0o1000 != 0 {
        return None;
    }
    if mode & 0o002 != 0 {
        let hint = format!("chmod o-w '{}'", object.display());
        return made("may be written by everybody".to_owned(), hint);
    }
    if !acl.is_empty() {
        let why = acl::foreign_writer(acl, metadata.gid(), me)?;
        let hint = format!("setfacl --remove-all '{}'", object.display());
        return made(format!("may be written by {why}"), hint);
    }
    if mode & 0o020 != 0 && !group::is_mine_alone(metadata.gid()) {
        let hint = format!("chmod g-w '{}'", object.display());
        return made(format!("may be written by group id {}", metadata.gid()), hint);
    }
    None
}
