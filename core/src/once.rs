//! Remembers builds that have a name. While a process builds under a name it holds the lock of the name's journal; with the
//! same name, a killed build is resumed, and a finished build is reported again instead of being repeated.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;

use crate::{
    error::{Error, Problem, Result, Stage},
    journal::{self, Entry, Journal, Key, Standing},
    report::Outcome,
    runs::{self, Run, State},
    settings::{OnResume, Resolved, Row, core_row, keys, names_file},
};

/// Directory below ARTIFACTS_DIR with one directory per name.
const DIRECTORY: &str = "once";

/// What was asked for: key and value of every setting that decides what is built, paths absolute, without secrets.
pub type Request = BTreeMap<String, String>;

/// A name, locked for this process.
#[derive(Debug)]
pub struct Once {
    name: String,
    directory: PathBuf,
    journal: Journal,
}

/// What earlier processes did under a name.
#[derive(Debug)]
pub enum Before {
    /// Nothing that counts: the build begins.
    Nothing,
    /// A run was not finished.
    Unfinished(Box<Run>),
    /// The build is done.
    Done(Box<Outcome>),
}

/// How far the build of a name is, for lists.
#[derive(Debug)]
pub enum Progress {
    /// It was not begun, or it was undone.
    Waiting,
    /// A process is at work on it.
    Running,
    /// Its run was not finished.
    Unfinished,
    /// It is done.
    Done(Box<Outcome>),
}

impl Progress {
    /// Returns its word in documents.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Unfinished => "unfinished",
            Self::Done(_) => "done",
        }
    }
}

/// Returns how far the build of a name is, without locking it. A journal that is not this user's does not count.
#[must_use]
pub fn progress(base: &Path, name: &str, key: &Key) -> Progress {
    let directory = base.join(DIRECTORY).join(name);
    let Ok(snapshot) = Journal::snapshot(&directory) else { return Progress::Waiting };
    if snapshot.in_use {
        return Progress::Running;
    }
    if matches!(snapshot.standing(key), Standing::Untrusted { .. }) {
        return Progress::Waiting;
    }
    match snapshot.entries.last() {
        Some(Entry::NameDone { outcome }) => match Outcome::of_document(outcome) {
            Some(outcome) if files_exist(&outcome) => Progress::Done(Box::new(outcome)),
            _ => Progress::Waiting,
        },
        Some(Entry::NameTaken { run_id, .. }) if base.join("runs").join(run_id).exists() => {
            Progress::Unfinished
        }
        _ => Progress::Waiting,
    }
}

/// Returns the name under which a run was begun that has not recorded its result there.
#[must_use]
pub fn name_of(base: &Path, run_id: &str, key: &Key) -> Option<String> {
    let names = fs::read_dir(base.join(DIRECTORY)).into_iter().flatten().flatten();
    let mut names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names.find(|name| {
        let snapshot = Journal::snapshot(&base.join(DIRECTORY).join(name));
        snapshot.is_ok_and(|found| {
            let is_last = matches!(found.entries.last(), Some(Entry::NameTaken { run_id: run, .. }) if run == run_id);
            is_last && !matches!(found.standing(key), Standing::Untrusted { .. })
        })
    })
}

/// Returns what the settings ask for.
///
/// # Errors
/// When the working directory is unknown.
pub fn request(settings: &Resolved, own: &[Row]) -> Result<Request> {
    let mut request = Request::new();
    for (key, text, _) in settings.shown() {
        let Some(row) = core_row(key) else { continue };
        if row.on_resume == OnResume::Free && keys::PLATFORM != *row {
            continue;
        }
        let is_file = row.setting.kind == build_image_plugin_api::SettingKind::Path;
        let text = if is_file && names_file(&text) {
            settings.absolute(text.as_ref())?.display().to_string()
        } else {
            text
        };
        request.insert(key.to_owned(), text);
    }
    let document = serde_json::to_value(settings.for_provider(own)).unwrap_or_default();
    for (key, value) in document.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        request.insert(key.clone(), text);
    }
    Ok(request)
}

impl Once {
    /// Locks a name.
    ///
    /// # Errors
    /// When another process builds under the name, when its journal cannot be written, or when it is not this user's.
    pub fn open(name: &str, base: &Path, key: &Arc<Key>) -> Result<Self> {
        let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
        let directory = base.join(DIRECTORY).join(name);
        let opened = Journal::open(&directory, key);
        let journal = opened.map_err(|error| {
            let in_use = Journal::snapshot(&directory).is_ok_and(|found| found.in_use);
            if in_use { in_use_error(name) } else { error }
        })?;
        Ok(Self { name: name.to_owned(), directory, journal })
    }

    /// Returns what earlier processes did under the name.
    ///
    /// # Errors
    /// When a finished build was made with other settings; each of them is named. When the unfinished run cannot be read.
    pub fn before(&self, base: &Path, request: &Request, key: &Key) -> Result<Before> {
        let entries = self.journal.entries();
        let last = entries.iter().rev().find_map(|entry| match entry {
            Entry::NameTaken { run_id, request } => Some((run_id, request)),
            _ => None,
        });
        let Some((run_id, before)) = last else { return Ok(Before::Nothing) };
        if let Some(Entry::NameDone { outcome }) = entries.last() {
            let outcome = Outcome::of_document(outcome).filter(files_exist);
            let Some(outcome) = outcome else { return Ok(Before::Nothing) };
            return self.same(before, request).map(|()| Before::Done(Box::new(outcome)));
        }
        let run = runs::list(base, key).into_iter().find(|run| run.id == *run_id);
        // A run that was undone is not there any more.
        Ok(match run.filter(|run| !run.platform.is_empty() || run.state == State::Untrusted) {
            Some(run) => Before::Unfinished(Box::new(run)),
            None => Before::Nothing,
        })
    }

    /// Refuses to report a build that was made with other settings.
    fn same(&self, before: &Request, now: &Request) -> Result<()> {
        let keys: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        let shown = |value: Option<&String>| {
            value.map_or_else(|| "not set".to_owned(), |text| format!("`{text}`"))
        };
        let problems: Vec<Problem> = keys
            .into_iter()
            .filter(|key| before.get(*key) != now.get(*key))
            .map(|key| (key, shown(before.get(key)), shown(now.get(key))))
            .map(|(key, before, now)| Problem::new(format!("{key} was {before}, now it is {now}")))
            .collect();
        if problems.is_empty() {
            return Ok(());
        }
        let text = format!("build `{}` is done already, with other settings", self.name);
        let hint = format!(
            "give these settings another name with --once, or remove `{}` to build again",
            self.directory.display()
        );
        Err(Error::several(Stage::Settings, text, problems).hint(hint))
    }

    /// Records that a run builds under the name.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub fn begin(&mut self, run_id: &str, request: Request) -> Result<()> {
        self.journal.append(Entry::NameTaken { run_id: run_id.to_owned(), request })
    }

    /// Refuses to resume a run under a name that another run has.
    ///
    /// # Errors
    /// As described.
    pub fn belongs_to(&self, run: &Run) -> Result<()> {
        let last = self.journal.entries().iter().rev().find_map(|entry| match entry {
            Entry::NameTaken { run_id, .. } => Some(run_id),
            _ => None,
        });
        match last {
            Some(other) if *other != run.id => {
                let text = format!(
                    "run `{}` cannot be resumed: build `{}` was begun again since, as run `{other}`",
                    run.id, self.name
                );
                Err(Error::new(Stage::Settings, text)
                    .hint("build-image gc --yes removes what the older run left"))
            }
            _ => Ok(()),
        }
    }

    /// Records the result of the build; from now on it is reported instead of being repeated.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub fn done(&mut self, outcome: &Outcome) -> Result<()> {
        let end_time = crate::clock::now();
        let document = Outcome { result: "SUCCESS".to_owned(), end_time, ..outcome.clone() };
        let outcome = serde_json::from_str(&document.text()).unwrap_or(Value::Null);
        self.journal.append(Entry::NameDone { outcome })
    }
}

impl Drop for Once {
    /// Removes the directory of a name that nothing was built under.
    fn drop(&mut self) {
        if self.journal.is_fresh() {
            let _ = fs::remove_file(self.directory.join(journal::FILE));
            let _ = fs::remove_dir(&self.directory);
            let _ = self.directory.parent().map(fs::remove_dir);
        }
    }
}

/// Returns whether the local files that a result names are still there.
fn files_exist(outcome: &Outcome) -> bool {
    let images = outcome.images.iter().map(|image| &image.id).filter(|id| id.starts_with('/'));
    outcome.file.iter().chain(images).all(|file| Path::new(file).exists())
}

fn in_use_error(name: &str) -> Error {
    Error::new(Stage::InUse, format!("another process is at work on build `{name}`"))
        .hint("wait until it has ended; the same command then reports its result")
}

#[cfg(test)]
mod tests;
