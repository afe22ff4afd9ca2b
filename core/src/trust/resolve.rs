//! Resolves a path like the kernel and records the directories and links that determine where it leads.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    path::{Component, Path, PathBuf},
};

/// Maximum number of links that are followed, as in the kernel (path_resolution(7)).
const LINKS: usize = 40;

/// The target of a path, and the objects that determine it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResolvedPath {
    /// The directories and links on the path, without the target itself.
    pub(crate) objects: BTreeSet<PathBuf>,
    /// The target, as a path without links.
    pub(crate) real: PathBuf,
}

/// Resolves a path through all links.
///
/// # Errors
/// When it leads nowhere, or has too many links.
pub(crate) fn resolve_path(path: &Path) -> io::Result<ResolvedPath> {
    let mut resolved = ResolvedPath { real: PathBuf::from("/"), ..ResolvedPath::default() };
    let mut rest: Vec<OsString> = parts(&std::path::absolute(path)?);
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == ".." {
            resolved.real.pop();
            continue;
        }
        resolved.objects.insert(resolved.real.clone());
        let next = resolved.real.join(&part);
        if next.symlink_metadata()?.is_symlink() {
            links += 1;
            if links > LINKS {
                return Err(io::Error::other("too many links"));
            }
            let target = next.read_link()?;
            // In a sticky directory, the link's owner determines where it leads.
            resolved.objects.insert(next);
            if target.is_absolute() {
                resolved.real = PathBuf::from("/");
            }
            rest.extend(parts(&target));
        } else {
            resolved.real = next;
        }
    }
    Ok(resolved)
}

/// The names in a path, in reverse order.
fn parts(path: &Path) -> Vec<OsString> {
    let named = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    named.collect()
}
