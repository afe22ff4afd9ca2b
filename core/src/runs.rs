//! Lists the runs that have a journal: their state, the last state they reached, and what they left in the cloud.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use build_image_plugin_api::{Resource, document::Build};
use serde::Serialize;

use crate::{
    clock,
    error::{Error, Result, Stage},
    journal::{
        Entry, HostId, Journal, JournalSnapshot, Key, Standing, open_resources, untrusted_error,
    },
    pipeline::{State as Reached, statement_of},
    publication::PublishedFile,
};

/// Directory of the runs, below that of all builds' files.
pub const DIRECTORY: &str = "runs";

/// The status of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A process uses it.
    Running,
    /// Its process ended without a final journal line: killed, or a power cut.
    #[default]
    Dead,
    /// It failed, and what it created was kept.
    Failed,
    /// It succeeded.
    Done,
    /// Its journal is damaged.
    Damaged,
    /// Its journal may have been written by another user.
    Untrusted,
    /// Its last process ran on another host and may still be running: its lock may not be visible here.
    Elsewhere,
}

/// One run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Run {
    /// Identifier.
    pub id: String,
    /// Directory of its journal.
    #[serde(rename = "folder")]
    pub directory: PathBuf,
    /// Its status.
    pub state: State,
    /// Provider.
    pub platform: String,
    /// The last step that began.
    pub step: Option<String>,
    /// When it was started; RFC 3339.
    pub started: String,
    /// Seconds since its last journal line.
    pub idle_seconds: u64,
    /// Bytes that its files occupy on this host.
    pub bytes: u64,
    /// The resources that it left in the cloud.
    pub resources: Vec<Resource>,
    /// The command line it was started with, without secrets.
    pub words: Vec<String>,
    /// Working directory of the command.
    #[serde(rename = "directory")]
    pub working_directory: PathBuf,
    /// Directory of its files, when it needed one.
    pub artifacts: Option<PathBuf>,
    /// The build with several targets of which it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Why its journal is not trusted: another user may have written it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untrusted: Option<String>,
    /// The host of its last process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// Whether the user has adopted it: others may have written a part of its journal.
    #[serde(skip)]
    pub adopted: bool,
    /// Why its journal cannot be read completely.
    #[serde(skip)]
    pub damage: Option<Error>,
    /// Settings of the provider, without secrets.
    #[serde(skip)]
    pub settings: serde_json::Value,
    /// The parameters that its steps received.
    #[serde(skip)]
    pub build: Build,
    /// Whether `build` is final, because the inputs were known.
    #[serde(skip)]
    pub is_known: bool,
    /// The settings that decide what is built.
    #[serde(skip)]
    pub shape: BTreeMap<String, String>,
    /// The states that it reached.
    pub reached: Reached,
    /// Files that were released with the image.
    #[serde(skip)]
    pub released: Vec<PublishedFile>,
    /// Path of its provenance statement, when that was made.
    #[serde(skip)]
    pub statement: Option<PathBuf>,
    /// Number of entries in its journal.
    #[serde(skip)]
    pub entries: usize,
}

impl Run {
    /// Returns the error for a run whose journal another user may have written.
    #[must_use]
    pub fn not_trusted(&self) -> Error {
        untrusted_error(&self.directory, self.untrusted.as_deref().unwrap_or_default())
    }

    /// Takes a run of another host whose lock is free for a dead one, if locks are seen by every host.
    #[must_use]
    pub fn with_shared_locks(self, are_shared: bool) -> Self {
        let is_dead = are_shared && self.state == State::Elsewhere;
        Self { state: if is_dead { State::Dead } else { self.state }, ..self }
    }

    /// Returns the error for a run that may be running on another host.
    #[must_use]
    pub fn is_elsewhere(&self) -> Error {
        let host = self.host.as_ref().map_or("another host", |host| &host.name);
        let text = format!("run `{}` may still be at work on `{host}`", self.id);
        let mut error = Error::new(Stage::Settings, text);
        error.causes = vec!["locks of its file system cannot be seen from this host".to_owned()];
        error.hint(format!("when it has ended there, name it with --adopt {}", self.id))
    }
}

/// Returns all runs below the artifacts directory, oldest first.
#[must_use]
pub fn list(base: &Path, key: &Key) -> Vec<Run> {
    let entries = fs::read_dir(base.join(DIRECTORY));
    // A link is skipped: its target must not be removed under the name of the link.
    let directories = entries.into_iter().flatten().flatten();
    let directories = directories.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut runs: Vec<Run> =
        directories.filter_map(|directory| read(&directory.path(), key).ok()).collect();
    runs.sort_by(|a, b| a.id.cmp(&b.id));
    runs
}

/// Finds a run by its identifier, or by the path of its directory.
///
/// # Errors
/// When no such run exists.
pub fn find(base: &Path, name: &str, key: &Key) -> Result<Run> {
    let directory =
        if name.contains('/') { PathBuf::from(name) } else { base.join(DIRECTORY).join(name) };
    let check_started = |run: Run| {
        if run.state == State::Running || !run.platform.is_empty() {
            return Ok(run);
        }
        let text = format!("run `{name}` ended before it wrote down what it was to build");
        Err(Error::new(Stage::Settings, text)
            .hint("start the build again; build-image gc --yes removes the directory of this run"))
    };
    read(&directory, key).and_then(check_started).map_err(|error| {
        if error.stage == Stage::Settings {
            return error;
        }
        let ids: Vec<String> = list(base, key).into_iter().map(|run| run.id).collect();
        let mut missing = Error::new(Stage::Settings, format!("cannot find run `{name}`"));
        missing.causes = [vec![error.message], error.causes].concat();
        missing.hint(if ids.is_empty() {
            format!(
                "no run is left in `{}`; name another directory with --artifacts-dir",
                base.display()
            )
        } else {
            format!("runs that are left: {}", ids.join(", "))
        })
    })
}

/// Returns the only run that can be resumed. An untrusted run is never chosen.
///
/// # Errors
/// When there is none, or more than one.
pub fn only(base: &Path, key: &Key) -> Result<Run> {
    let mut runs = list(base, key);
    let untrusted: Vec<String> =
        runs.iter().filter(|run| run.state == State::Untrusted).map(|run| run.id.clone()).collect();
    runs.retain(|run| {
        matches!(run.state, State::Dead | State::Failed | State::Elsewhere)
            && !run.platform.is_empty()
    });
    if let [run] = runs.as_slice() {
        return Ok(run.clone());
    }
    let names: Vec<&str> = runs.iter().map(|run| run.id.as_str()).collect();
    Err(if names.is_empty() && !untrusted.is_empty() {
        let what = format!("no run in `{}` is trusted", base.display());
        Error::usage(what)
            .hint(format!("build-image runs says why; not trusted: {}", untrusted.join(", ")))
    } else if names.is_empty() {
        Error::usage(format!("no run in `{}` can be resumed", base.display()))
            .hint("start the build again, or name another directory with --artifacts-dir")
    } else {
        Error::usage("resume needs the name of a run, there are several")
            .hint(format!("one of {}", names.join(", ")))
    })
}

/// Returns the run that a journal's first line describes.
fn started(entry: &Entry, directory: &Path, times: &(String, String)) -> Option<Run> {
    let Entry::RunStarted {
        run_id,
        platform,
        settings,
        words,
        working_directory,
        shape,
        provisional,
        build,
        artifacts,
        group,
        ..
    } = entry
    else {
        return None;
    };
    Some(Run {
        id: run_id.clone(),
        directory: directory.to_owned(),
        state: State::Dead,
        platform: platform.clone(),
        started: times.0.clone(),
        idle_seconds: clock::seconds_since(&times.1),
        words: words.clone(),
        working_directory: PathBuf::from(working_directory),
        artifacts: artifacts.clone(),
        group: group.as_deref().map(str::to_owned),
        settings: settings.clone(),
        build: build.as_ref().clone(),
        is_known: !provisional,
        shape: shape.clone(),
        ..Run::default()
    })
}

/// Reads the run in a directory.
///
/// # Errors
/// When its journal cannot be read.
pub(crate) fn read(directory: &Path, key: &Key) -> Result<Run> {
    let snapshot = Journal::snapshot(directory)?;
    let standing = snapshot.standing(key);
    let JournalSnapshot { entries, times, in_use, has_lock, damage, .. } = snapshot;
    let started = entries.iter().find_map(|entry| started(entry, directory, &times));
    // Killed before its first journal line: it did nothing, but its directory exists.
    let mut run = started.unwrap_or_else(|| {
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        Run { id: name.into_owned(), directory: directory.to_owned(), ..Run::default() }
    });
    follow(&mut run, &entries);
    if let Standing::Untrusted { reason, .. } = standing {
        // The name of its directory is the name that the user can adopt.
        run.id = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        run.untrusted = Some(reason);
        run.state = State::Untrusted;
    }
    if in_use {
        run.state = State::Running;
    } else if damage.is_some() {
        run.state = State::Damaged;
    } else if run.state == State::Dead
        && (!has_lock || run.host.as_ref().is_some_and(HostId::is_another))
    {
        run.state = State::Elsewhere;
    }
    run.damage = damage;
    let artifacts = run.artifacts.as_ref().filter(|_| run.untrusted.is_none());
    run.bytes = [Some(&run.directory), artifacts].into_iter().flatten().map(disk_usage).sum();
    run.reached = Reached::of(&entries);
    run.entries = entries.len();
    run.statement = statement_of(&entries);
    run.resources = open_resources(&entries);
    Ok(run)
}

/// Determines the states that a run reached.
fn follow(run: &mut Run, entries: &[Entry]) {
    for entry in entries {
        match entry {
            Entry::StepStarted { step } => {
                run.step = Some(step.clone());
                run.state = State::Dead;
            }
            Entry::InputsKnown { build, artifacts } => {
                run.build = build.as_ref().clone();
                run.artifacts.clone_from(artifacts);
                run.is_known = true;
            }
            Entry::RunAdopted { .. } => run.adopted = true,
            Entry::RunStarted { host, .. } | Entry::RunResumed { host, .. } => {
                run.host.clone_from(host);
            }
            Entry::ProductsReleased { files } => run.released.clone_from(files),
            Entry::RunDone { result } if result == "success" => run.state = State::Done,
            Entry::RunDone { .. } => run.state = State::Failed,
            _ => {}
        }
    }
}

/// Returns the bytes that the files below a directory occupy; links are not followed.
fn disk_usage(directory: &PathBuf) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let of_one = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => disk_usage(&entry.path()),
        // The unit of `st_blocks` is 512 bytes (POSIX does not define it, Linux does).
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(of_one).sum()
}
