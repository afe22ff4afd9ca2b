//! Prints what an untrusted run would use and remove, before the user decides to trust it.

use std::path::{Path, PathBuf};

use super::{args, build::Resumed};
use crate::{
    error::{Error, Result, Stage},
    runs::Run,
    settings::{Environment, FileLayer, Key, Layers, Resolved, Use, keys, rows_for, rows_of},
    trust::{Scope, is_below},
};

/// Setting that names the file of the provenance statement.
const STATEMENT: Key = keys::PROVENANCE_FILE;

/// Directories in which local files of a run may be removed.
pub(super) fn scope(run: &Run, base: &Path) -> Scope {
    let published = run.build.image_dir.as_deref().map(Path::new);
    Scope::of_run(&run.id, &run.directory, run.artifacts.as_deref(), base, published)
}

/// Refuses a run whose provenance statement would be written to a path that only its journal names.
///
/// # Errors
/// Names the path.
pub(super) fn check_statement(run: &Run, environment: &Environment) -> Result<()> {
    let Some(path) = foreign_statement(run, environment) else { return Ok(()) };
    let text = format!(
        "run `{}` would write its provenance statement to `{}`, which is not its {STATEMENT}",
        run.id,
        path.display()
    );
    Err(Error::new(Stage::Settings, text)
        .hint(format!("set {STATEMENT} to this path if it is where you want the statement")))
}

/// Returns the path of a run's provenance statement if the run was adopted and its settings do not name that path.
fn foreign_statement<'r>(run: &'r Run, environment: &Environment) -> Option<&'r Path> {
    let path = run.statement.as_deref().filter(|_| run.adopted || run.untrusted.is_some())?;
    let settings = settings(run, environment);
    let own = settings.as_ref().and_then(own_statement);
    (own.as_deref() != Some(path)).then_some(path)
}

/// Returns the path of the statement that a run's settings name.
fn own_statement(settings: &Resolved) -> Option<PathBuf> {
    settings.absolute(settings.core().publication.provenance.as_deref()?).ok()
}

/// Formats what a run uses and what would be removed, in lines.
pub(super) fn describe(run: &Run, base: &Path, environment: &Environment) -> String {
    let mut text = format!("    it was started in `{}` with:\n", run.working_directory.display());
    text.push_str(&format!("      build-image {}\n", run.words.join(" ")));
    let settings = settings(run, environment);
    for row in rows_for(Use::Adoption) {
        let key = row.key();
        if let Some(path) = settings.as_ref().and_then(|settings| settings.of(&row)?.text()) {
            let path = run.working_directory.join(path);
            text.push_str(&format!("    {key}: `{}`{}\n", path.display(), absent(&path)));
        }
    }
    if settings.is_none() {
        text.push_str(
            "    its configuration file cannot be read; it may name programs and plugins\n",
        );
    }
    let removed =
        [Some(&run.directory), run.artifacts.as_ref().filter(|path| is_below(path, base))];
    for directory in removed.into_iter().flatten() {
        text.push_str(&format!("    would remove the directory `{}`\n", directory.display()));
    }
    text.push_str(&written(run, settings.as_ref(), environment));
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

/// Formats where a run writes, in lines.
fn written(run: &Run, settings: Option<&Resolved>, environment: &Environment) -> String {
    let mut text = String::new();
    if let Some(directory) = &run.build.image_dir {
        text.push_str(&format!("    would write files in `{directory}`\n"));
    }
    if let Some(path) = settings.and_then(own_statement) {
        text.push_str(&format!("    would write `{}`\n", path.display()));
    }
    if let Some(path) = foreign_statement(run, environment) {
        let path = path.display();
        text.push_str(&format!("    would leave `{path}`: it is not the run's {STATEMENT}\n"));
    }
    text
}

fn absent(path: &Path) -> &'static str {
    if path.symlink_metadata().is_ok() { "" } else { " (missing)" }
}

/// Returns the settings of the run's command line, its configuration file and the environment; `None` when that file
/// cannot be read.
fn settings(run: &Run, environment: &Environment) -> Option<Resolved> {
    let rows = [rows_for(Use::Adoption), rows_of(&[STATEMENT])].concat();
    let resumed = Resumed { run: run.clone(), typed: Vec::new() };
    let mut layers: Layers = args::without_file(&run.words, environment, Some(&resumed));
    let named = layers.resolve(&rows).ok()?.core().plugins.config_file.clone();
    layers.file = match named {
        Some(path) => Some(FileLayer::read(&path).ok()?),
        None => None,
    };
    // A target of the list may name programs and plugins too.
    let names = args::last_names(&run.words, &layers);
    args::choose_one(&mut layers, &names).ok()?;
    layers.resolve(&rows).ok()
}
