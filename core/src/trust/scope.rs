//! Limits which local files are removed for a run: its own directories, and its files in IMAGE_DIR. A journal
//! may name any path of this host, and the user who removes leftovers may have rights to remove any file.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use build_image_plugin_api::Resource;

use crate::{publication::Publication, report::Leftover};

/// Kind of resources that are files of this host (`ready::directory`).
const FILE: &str = "file";

/// The paths where files of a run may be removed.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Directories of the run itself; all their contents may be removed.
    own: Vec<PathBuf>,
    /// Directory of published images; entries that the journal names may be removed.
    published: Option<PathBuf>,
}

impl Scope {
    /// The directories of a run: its journal's, its artifacts directory if that is below the directory of all
    /// builds' files, its staging directory, and IMAGE_DIR.
    pub(crate) fn of_run(
        id: &str,
        run: &Path,
        artifacts: Option<&Path>,
        base: &Path,
        published: Option<&Path>,
    ) -> Self {
        let artifacts = artifacts.filter(|directory| is_below(directory, base));
        let staging = published.and_then(|directory| Publication::staging_of(directory, id).ok());
        let own = [Some(run), artifacts, staging.as_deref()];
        Self::new(own.into_iter().flatten(), published)
    }

    /// The run's own directories, without links, and its IMAGE_DIR.
    fn new<'p>(own: impl IntoIterator<Item = &'p Path>, published: Option<&Path>) -> Self {
        let real = |path: &Path| fs::canonicalize(path).ok();
        Self {
            own: own.into_iter().filter_map(real).collect(),
            published: published.and_then(real),
        }
    }

    /// Splits resources into those that may be removed and those that are kept.
    pub(crate) fn split(&self, resources: Vec<Resource>) -> (Vec<Resource>, Vec<Leftover>) {
        let (mut removed, mut left) = (Vec::new(), Vec::new());
        for resource in resources {
            match self.refusal(&resource) {
                None => removed.push(resource),
                Some(reason) => {
                    let hint = Some("look at it, and remove it by hand if it is yours".to_owned());
                    left.push(Leftover { resource, reason, hint });
                }
            }
        }
        (removed, left)
    }

    /// Returns why a resource is not removed: it names a file of this host outside of these directories.
    pub(crate) fn refusal(&self, resource: &Resource) -> Option<String> {
        let is_file = resource.kind == FILE;
        let values = [Some(&resource.name), resource.id.as_ref()];
        let values = values.into_iter().flatten().chain(resource.attributes.values());
        values.map(|value| Path::new(value.as_str())).find_map(|path| {
            // Names with slashes of other kinds are cloud names, unless such a path also exists on this host.
            let meant = is_file && path.components().count() > 1
                || path.is_absolute() && path.symlink_metadata().is_ok();
            let not_below =
                || format!("`{}` is not below the directories of its run", path.display());
            (meant && !self.covers(path)).then(not_below)
        })
    }

    /// Returns whether a path is below the run's directories, or an entry of IMAGE_DIR. A missing path cannot
    /// be removed.
    fn covers(&self, path: &Path) -> bool {
        if !path.is_absolute() {
            return false;
        }
        let (Some(parent), Some(_)) = (path.parent(), path.file_name()) else { return false };
        let parent = match fs::canonicalize(parent) {
            Ok(parent) => parent,
            Err(error) => return error.kind() == io::ErrorKind::NotFound,
        };
        self.own.iter().any(|own| parent.starts_with(own))
            || self.published.as_ref().is_some_and(|published| parent == *published)
    }
}

/// Returns whether a directory is below the directory of all builds' files; links are followed. The directory
/// may have been removed, with some of its parents left.
pub(crate) fn is_below(directory: &Path, base: &Path) -> bool {
    let is_plain = |part: Component<'_>| !matches!(part, Component::ParentDir | Component::CurDir);
    if !directory.components().all(is_plain) {
        return false;
    }
    let existing = directory.ancestors().find(|directory| directory.symlink_metadata().is_ok());
    let Some((existing, base)) = existing.zip(fs::canonicalize(base).ok()) else { return false };
    let rest = directory.strip_prefix(existing).unwrap_or(Path::new(""));
    let real = fs::canonicalize(existing).map(|real| real.join(rest));
    real.is_ok_and(|directory| {
        directory.starts_with(&base) && directory.components().ne(base.components())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_run_are_removed() {
        let base = tempfile::tempdir().unwrap();
        let (run, images) = (base.path().join("runs/r"), base.path().join("images"));
        let elsewhere = base.path().join("elsewhere");
        for folder in [&run, &images, &elsewhere, &images.join("below")] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(elsewhere.join("precious"), "").unwrap();
        std::os::unix::fs::symlink(&elsewhere, run.join("link")).unwrap();
        let scope = Scope::new([run.as_path()], Some(&images));
        let display = |path: PathBuf| path.display().to_string();
        let precious = display(elsewhere.join("precious"));
        let file = |path: PathBuf| Resource::new(FILE, display(path));
        for (resource, removed) in [
            (file(images.join("disk.qcow2")), true),
            (file(run.join("a/b")), true),
            (file(run.join("disk.raw")).with_id(display(images.join("x"))), true),
            (file(elsewhere.join("precious")), false),
            (file(images.join("x")).with_id(precious.clone()), false),
            (file(images.join("x")).with("temporary", precious.clone()), false),
            (file(run.join("link/precious")), false),
            (file(run.join("../../elsewhere/precious")), false),
            (file(images.join("below/x")), false),
            (file(images.clone()), false),
            (file("a/relative".into()), false),
            (Resource::new("ova", precious.clone()), false),
            (Resource::new("image", "m-1").with("path", precious), false),
            (Resource::new("image", "/subscriptions/1/images/2"), true),
            (Resource::new("object", "folder/key"), true),
        ] {
            assert_eq!(scope.refusal(&resource).is_none(), removed, "{resource:?}");
        }
    }
}
