//! Runs that left a journal: which there are, how far they came, what they left in the cloud.

use std::{
    fs,
    path::{Path, PathBuf},
};

use build_image_plugin_api::{Resource, document::Build};
use serde::Serialize;

use crate::{
    error::{Error, Result, Stage},
    journal::{Entry, Journal, open_resources},
};

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A process is at work with it.
    Running,
    /// Its process ended without a last word: killed, or a power cut.
    Dead,
    /// It failed, and what it made was kept.
    Failed,
    /// It succeeded.
    Done,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Identifier.
    pub id: String,
    /// Folder of its journal.
    pub folder: PathBuf,
    /// What became of it.
    pub state: State,
    /// Provider.
    pub platform: String,
    /// The last step that began.
    pub step: Option<String>,
    /// What it left in the cloud.
    pub resources: Vec<Resource>,
    /// The command line it was started with, without secrets.
    pub words: Vec<String>,
    /// Working directory of the command.
    pub directory: PathBuf,
    /// Folder of its files, when it needed one.
    pub artifacts: Option<PathBuf>,
    /// Settings of the provider, without secrets.
    #[serde(skip)]
    pub settings: serde_json::Value,
    /// What its steps were told.
    #[serde(skip)]
    pub build: Build,
}

/// All runs below the artifacts folder, oldest first.
#[must_use]
pub fn list(base: &Path) -> Vec<Run> {
    let entries = fs::read_dir(base.join("runs"));
    let folders = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let mut runs: Vec<Run> = folders.filter_map(|folder| read(&folder).ok()).collect();
    runs.sort_by(|a, b| a.id.cmp(&b.id));
    runs
}

/// A run by its identifier, or by the path of its folder.
///
/// # Errors
/// When there is none.
pub fn find(base: &Path, name: &str) -> Result<Run> {
    let folder =
        if name.contains('/') { PathBuf::from(name) } else { base.join("runs").join(name) };
    read(&folder).map_err(|error| {
        let known: Vec<String> = list(base).into_iter().map(|run| run.id).collect();
        let mut missing =
            Error::new(Stage::Settings, format!("there is no run `{name}` to go on with"));
        missing.causes = [vec![error.message], error.causes].concat();
        missing.hint(if known.is_empty() {
            format!(
                "no run is left in `{}`; name another folder with --artifacts-dir",
                base.display()
            )
        } else {
            format!("runs that are left: {}", known.join(", "))
        })
    })
}

fn read(folder: &Path) -> Result<Run> {
    let (entries, in_use) = Journal::peek(folder)?;
    let started = entries.iter().find_map(|entry| match entry {
        Entry::RunStarted {
            run_id,
            platform,
            settings,
            words,
            folder: directory,
            build,
            artifacts,
            ..
        } => Some(Run {
            id: run_id.clone(),
            folder: folder.to_owned(),
            state: State::Dead,
            platform: platform.clone(),
            step: None,
            resources: Vec::new(),
            words: words.clone(),
            directory: PathBuf::from(directory),
            artifacts: artifacts.clone(),
            settings: settings.clone(),
            build: build.as_ref().clone(),
        }),
        _ => None,
    });
    let mut run = started.ok_or_else(|| {
        Error::new(Stage::Disk, format!("the journal in `{}` has no beginning", folder.display()))
    })?;
    for entry in &entries {
        match entry {
            Entry::StepStarted { step } => {
                run.step = Some(step.clone());
                run.state = State::Dead;
            }
            Entry::RunDone { result } if result == "success" => run.state = State::Done,
            Entry::RunDone { .. } => run.state = State::Failed,
            _ => {}
        }
    }
    if in_use {
        run.state = State::Running;
    }
    run.resources = open_resources(&entries);
    Ok(run)
}
