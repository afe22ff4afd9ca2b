//! Shows what a run that is not trusted would use and remove, before the user decides to trust it.

use std::{
    fs,
    path::{Component, Path},
};

use super::{args, build::Resumed};
use crate::{
    publication::Publication,
    runs::Run,
    settings::{Environment, FileLayer, Layers, Resolved, Row, core_rows},
    trust::Scope,
};

/// Settings by which a build starts programs, loads code or reads settings.
const CODE: [&str; 5] = ["CONFIG_FILE", "QEMU", "PROVIDER_DIR", "PROVIDER_FILE", "PROVIDERS_LOCK"];

/// Where local files of a run may be removed.
pub(super) fn scope(run: &Run, base: &Path) -> Scope {
    let artifacts = run.artifacts.as_deref().filter(|directory| is_below(directory, base));
    let published = run.build.image_dir.as_deref().map(Path::new);
    let staging = published.and_then(|directory| Publication::staging_of(directory, &run.id).ok());
    let own = [Some(run.folder.as_path()), artifacts, staging.as_deref()];
    Scope::new(own.into_iter().flatten(), published)
}

/// Whether a directory is below the one of all builds' files; links are followed. It may be gone already, with
/// parents of it that are left.
pub(super) fn is_below(directory: &Path, base: &Path) -> bool {
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

/// What a run uses and what would be removed, in lines.
pub(super) fn shown(run: &Run, base: &Path, environment: &Environment) -> String {
    let mut text = format!("    it was started in `{}` with:\n", run.directory.display());
    text.push_str(&format!("      build-image {}\n", run.words.join(" ")));
    let settings = settings(run, environment);
    for key in CODE {
        if let Some(path) = settings.as_ref().and_then(|settings| settings.path(key)) {
            let path = run.directory.join(path);
            text.push_str(&format!("    {key}: `{}`{}\n", path.display(), absent(&path)));
        }
    }
    if settings.is_none() {
        text.push_str(
            "    its configuration file cannot be read; it may name programs and plugins\n",
        );
    }
    let removed = [Some(&run.folder), run.artifacts.as_ref().filter(|path| is_below(path, base))];
    for directory in removed.into_iter().flatten() {
        text.push_str(&format!("    would remove the directory `{}`\n", directory.display()));
    }
    let scope = scope(run, base);
    for resource in &run.resources {
        let label = resource.label();
        text.push_str(&match scope.refusal(resource) {
            None => format!("    would remove {label}\n"),
            Some(why) => format!("    would leave {label}: {why}\n"),
        });
    }
    text
}

fn absent(path: &Path) -> &'static str {
    if path.symlink_metadata().is_ok() { "" } else { " (missing)" }
}

/// The settings of the run's command line, its configuration file and the environment; nothing when that file cannot
/// be read.
fn settings(run: &Run, environment: &Environment) -> Option<Resolved> {
    let rows: Vec<Row> = core_rows().into_iter().filter(|row| CODE.contains(&row.key())).collect();
    let resumed = Resumed { run: run.clone(), typed: Vec::new() };
    let mut layers: Layers = args::without_file(&run.words, environment, Some(&resumed));
    let named = layers.resolve(&rows).ok()?.path("CONFIG_FILE");
    layers.file = match named {
        Some(path) => Some(FileLayer::read(&path).ok()?),
        None => None,
    };
    layers.resolve(&rows).ok()
}
