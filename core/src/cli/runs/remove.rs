//! Removes runs of earlier processes, and what they left.

use std::{path::Path, sync::Arc};

use build_image_disk::remove_abandoned;

use super::finishes;
use crate::{
    artifacts,
    cli::{
        self, adopt, args,
        build::{self, Resumed},
    },
    error::{Error, Result, Stage},
    groups,
    interrupt::Interrupt,
    journal::{Entry, Journal, Key, continued, is_continued},
    once,
    pipeline::{State as Reached, clean, publish_statement},
    publication::{Committed, Publication},
    report::{Leftover, Outcome, OutputMode, Reporter},
    runs::{Run, State},
    settings::Environment,
    trust::{Scope, is_below},
};

/// What is done with one run that is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// It is trusted from now on.
    Adopt,
    /// What it left in the cloud stays there.
    Forget,
}

/// Removes a run, what it left here, and unless it is forgotten what it left in the cloud.
///
/// # Errors
/// When it must not be removed, or something could not be.
pub(super) fn remove(
    run: &Run,
    base: &Path,
    choice: Option<Choice>,
    key: &Arc<Key>,
    environment: &Environment,
    interrupt: &Arc<Interrupt>,
) -> Result<()> {
    let adopt = choice == Some(Choice::Adopt);
    check(run, adopt, environment)?;
    if run.reached >= Reached::Released
        && choice != Some(Choice::Forget)
        && let Some(name) = once::name_of(base, &run.id, key)
    {
        return Err(not_recorded(run, &name));
    }
    let group = run.group.as_ref().filter(|id| !id.contains('/'));
    // A build with several targets that another process resumes is about to use its runs.
    let _group = group.map(|id| Journal::hold(&groups::directory(base, id))).transpose()?;
    let scope = adopt::scope(run, base);
    if adopt {
        drop(Journal::adopt(&run.directory, key)?);
    }
    let cleans = !run.resources.is_empty() && choice != Some(Choice::Forget);
    if cleans {
        let left = in_the_cloud(run, &scope, adopt, key, environment, interrupt)
            .map_err(|error| or_forget(error, run))?;
        let reporter = Reporter::new(OutputMode::of_stderr(environment));
        left.iter().for_each(|leftover| reporter.left_behind(leftover));
        if !left.is_empty() {
            return Err(still_has(run));
        }
    }
    let held = Journal::hold(&run.directory)?;
    let entries = match &held {
        Some(_) => Journal::snapshot(&run.directory)?.entries,
        None => Vec::new(),
    };
    if is_gone(run, &entries) {
        artifacts::remove_run(&run.directory, base);
        cli::print(&format!("{}  completed or removed by another process\n", run.id));
        return Ok(());
    }
    // Its own clean-up has added entries.
    let is_resumed = |entry: &Entry| matches!(entry, Entry::RunResumed { .. });
    let has_changed = if cleans {
        entries.iter().skip(run.entries).any(is_resumed)
    } else {
        is_continued(run.entries, &entries)
    };
    if has_changed {
        return Err(continued(&run.id));
    }
    end_publication(run)?;
    remove_unfinished(run);
    if let Some(directory) = run.artifacts.as_ref().filter(|path| is_below(path, base)) {
        artifacts::remove_left(directory, base);
    }
    artifacts::remove_run(&run.directory, base);
    cli::print(&match (choice, run.resources.len()) {
        (Some(Choice::Forget), 1..) => format!("{}  forgotten; what it lists stays\n", run.id),
        _ => format!("{}  removed\n", run.id),
    });
    Ok(())
}

/// Refuses a run that is not this user's, may be at work elsewhere, or is damaged.
fn check(run: &Run, adopt: bool, environment: &Environment) -> Result<()> {
    if run.untrusted.is_some() && !adopt {
        return Err(run.not_trusted());
    }
    if run.state == State::Elsewhere && !adopt {
        return Err(run.is_elsewhere());
    }
    if let Some(damage) = &run.damage {
        return Err(damage.clone());
    }
    if finishes(run) {
        adopt::check_statement(run, environment)?;
    }
    Ok(())
}

/// Returns whether another process has removed the journal since the run was listed; opening it makes a new one.
fn is_gone(run: &Run, entries: &[Entry]) -> bool {
    run.entries > 0 && !entries.iter().any(|entry| matches!(entry, Entry::RunStarted { .. }))
}

/// Returns the error for a run whose image exists, and which has a name that does not say so yet: without the run, the name
/// would be built again.
fn not_recorded(run: &Run, name: &str) -> Error {
    let text =
        format!("run `{}` has its image, and build `{name}` does not have its result yet", run.id);
    Error::new(Stage::Leftovers, text).hint(format!(
        "build-image resume {} finishes it; build-image gc --forget {} --yes removes the run",
        run.id, run.id
    ))
}

fn still_has(run: &Run) -> Error {
    let text = format!("run `{}` still has something that could not be removed", run.id);
    Error::new(Stage::Leftovers, text).hint(format!(
        "when it is removed otherwise, or is not yours: build-image gc --forget {} --yes",
        run.id
    ))
}

/// Adds to an error of settings or of the plugin what the user can do without the provider.
fn or_forget(error: Error, run: &Run) -> Error {
    if !matches!(error.stage, Stage::Usage | Stage::Settings | Stage::Plugin) {
        return error;
    }
    let forget = format!("to leave what it lists: build-image gc --forget {} --yes", run.id);
    let hint = error.hint.as_ref().map_or(forget.clone(), |hint| format!("{hint}; {forget}"));
    error.hint(hint)
}

/// Finishes the publication of a released run; removes the files of any other.
fn end_publication(run: &Run) -> Result<()> {
    let is_released = finishes(run);
    if let Some(directory) = run.build.image_dir.as_deref().map(Path::new) {
        if !Publication::is_pending(directory, &run.id) {
            Publication::remove_stale_lock(directory);
        } else if !is_released {
            return Publication::discard(directory, &run.id);
        } else if !publishes(run, directory)? {
            // The names belong to a later build, and so does the statement.
            return Ok(());
        }
    }
    if let Some(path) = run.statement.as_ref().filter(|_| is_released) {
        publish_statement(&run.directory, path)?;
    }
    Ok(())
}

/// Gives the files of a run their names; returns whether they have them.
fn publishes(run: &Run, directory: &Path) -> Result<bool> {
    match Publication::commit(directory, &run.id, &run.released)? {
        Committed::Published(files) => {
            let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            cli::print(&format!("{}  published {}\n", run.id, names.join(", ")));
            Ok(true)
        }
        Committed::Superseded => {
            cli::print(&format!("{}  gave way to newer files of its names\n", run.id));
            Ok(false)
        }
    }
}

/// Removes files outside its own directories that a run was writing, under their temporary names.
fn remove_unfinished(run: &Run) {
    if let Some(directory) = run.build.image_dir.as_deref().map(Path::new) {
        remove_abandoned(directory, &format!(".{}.", run.build.file_stem));
        // Also those of tests whether the directory is writable.
        remove_abandoned(directory, ".build-image.probe.");
    }
}

fn in_the_cloud(
    run: &Run,
    scope: &Scope,
    adopt: bool,
    key: &Arc<Key>,
    environment: &Environment,
    interrupt: &Arc<Interrupt>,
) -> Result<Vec<Leftover>> {
    let resumed = Resumed { run: run.clone(), typed: Vec::new() };
    let layers = args::core_layers(&run.words, environment, Some(&resumed))?;
    let prepared = build::prepare(&run.words, layers, Some(&resumed), &mut Outcome::default())?;
    let prepared = match prepared {
        build::Preparation::Ready(prepared) => prepared,
        build::Preparation::Text(_) => {
            return Err(Error::new(Stage::Bug, format!("run `{}` was no build", run.id)));
        }
    };
    let reporter = Arc::new(Reporter::new(OutputMode::None));
    let open = if adopt { Journal::adopt } else { Journal::open };
    let journal = open(&run.directory, key)?;
    // The list may be minutes old: other runs were removed first.
    if is_gone(run, journal.entries()) {
        return Ok(Vec::new());
    }
    if is_continued(run.entries, journal.entries()) {
        return Err(continued(&run.id));
    }
    let (plugin, settings) = (&prepared.plugin, &prepared.settings);
    clean(run, journal, scope, plugin, settings, reporter, Arc::clone(interrupt))
}
