//! Follows a path as the kernel does and notes what decides where it leads.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    path::{Component, Path, PathBuf},
};

/// Most links that are followed; the kernel follows as many (path_resolution(7)).
const LINKS: usize = 40;

/// Where a path leads, and by what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Way {
    /// The directories and links on the way, without the target itself.
    pub(crate) objects: BTreeSet<PathBuf>,
    /// The target, a path without links.
    pub(crate) real: PathBuf,
}

/// Follows a path to its end, through links.
///
/// # Errors
/// When it leads nowhere, or in a circle.
pub(crate) fn way(path: &Path) -> io::Result<Way> {
    let mut way = Way { real: PathBuf::from("/"), ..Way::default() };
    let mut rest: Vec<OsString> = parts(&std::path::absolute(path)?);
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == ".." {
            way.real.pop();
            continue;
        }
        way.objects.insert(way.real.clone());
        let next = way.real.join(&part);
        if next.symlink_metadata()?.is_symlink() {
            links += 1;
            if links > LINKS {
                return Err(io::Error::other("too many links"));
            }
            let target = next.read_link()?;
            // In a sticky directory its owner decides where it leads.
            way.objects.insert(next);
            if target.is_absolute() {
                way.real = PathBuf::from("/");
            }
            rest.extend(parts(&target));
        } else {
            way.real = next;
        }
    }
    Ok(way)
}

/// The names in a path, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let named = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    named.collect()
}
