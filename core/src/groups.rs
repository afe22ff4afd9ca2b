//! Lists builds with several targets that are not finished. Each target is a run with a journal; the journal of the build
//! itself, below `groups`, says which runs belong to it and which targets are done.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::Value;

use crate::{
    clock,
    error::{Error, Result, Stage},
    journal::{
        Entry, GroupTarget, HostId, Journal, JournalSnapshot, Key, Standing, untrusted_error,
    },
    runs::State,
};

/// Directory of these journals, below the directory of all builds' files.
pub const DIRECTORY: &str = "groups";

/// A build with several targets.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Group {
    /// Identifier.
    pub id: String,
    /// Directory of its journal.
    #[serde(rename = "folder")]
    pub directory: PathBuf,
    /// Its status.
    pub state: State,
    /// When it was started; RFC 3339.
    pub started: String,
    /// Seconds since its last journal line.
    pub idle_seconds: u64,
    /// Its targets.
    pub targets: Vec<Target>,
    /// The command line it was started with, without secrets.
    pub words: Vec<String>,
    /// Working directory of the command.
    #[serde(rename = "directory")]
    pub working_directory: PathBuf,
    /// Why its journal is not trusted: another user may have written it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untrusted: Option<String>,
    /// The host of its last process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// Directories that its targets share.
    #[serde(skip)]
    pub shared: Vec<PathBuf>,
    /// Why its journal cannot be read completely.
    #[serde(skip)]
    pub damage: Option<Error>,
    /// Number of entries in its journal.
    #[serde(skip)]
    pub entries: usize,
}

/// A target of such a build.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its provider.
    pub provider: String,
    /// Identifier of its last run; absent before the first one.
    pub run: Option<String>,
    /// The exit code of that run; absent while it has not ended.
    pub exit_code: Option<u8>,
    /// The result document of that run.
    #[serde(skip)]
    pub result: Option<Value>,
}

impl Target {
    /// Returns whether nothing is left to do for it.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.exit_code == Some(crate::exit::DONE)
    }
}

impl Group {
    /// Returns the error of a build whose process cannot continue here; `None` when it can be resumed.
    #[must_use]
    pub fn refusal(&self) -> Option<Error> {
        let id = &self.id;
        if let Some(why) = &self.untrusted {
            return Some(untrusted_error(&self.directory, why));
        }
        if let Some(damage) = &self.damage {
            return Some(damage.clone());
        }
        match self.state {
            State::Running => {
                let text = format!("build `{id}` cannot be resumed: a process is at work with it");
                Some(Error::new(Stage::InUse, text).hint("wait until it is done"))
            }
            State::Elsewhere => {
                let host = self.host.as_ref().map_or("another host", |host| &host.name);
                let text = format!("build `{id}` may still be at work on `{host}`");
                Some(Error::new(Stage::Settings, text).hint(
                    "when it has ended there, resume or remove its runs one by one with --adopt",
                ))
            }
            _ => None,
        }
    }
}

/// Returns the directory of a build's journal.
#[must_use]
pub fn directory(base: &Path, id: &str) -> PathBuf {
    base.join(DIRECTORY).join(id)
}

/// Returns all builds below the directory of all builds' files, oldest first.
#[must_use]
pub fn list(base: &Path, key: &Key) -> Vec<Group> {
    let entries = fs::read_dir(base.join(DIRECTORY)).into_iter().flatten().flatten();
    // A link is skipped: its target must not be removed under the name of the link.
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut groups: Vec<Group> =
        directories.filter_map(|entry| read(&entry.path(), key).ok()).collect();
    groups.sort_by(|a, b| a.id.cmp(&b.id));
    groups
}

/// Returns the build with an identifier, if its journal exists.
///
/// # Errors
/// When the journal cannot be read.
pub fn find(base: &Path, id: &str, key: &Key) -> Result<Option<Group>> {
    let directory = directory(base, id);
    if id.contains('/') || !directory.is_dir() {
        return Ok(None);
    }
    read(&directory, key).map(Some)
}

/// Returns the disks that were installed for the targets: the facts by what decides the content.
#[must_use]
pub fn installed(entries: &[Entry]) -> BTreeMap<String, Value> {
    let facts = entries.iter().filter_map(|entry| match entry {
        Entry::DiskInstalled { shape, facts } => Some((shape.clone(), facts.clone())),
        _ => None,
    });
    facts.collect()
}

fn read(directory: &Path, key: &Key) -> Result<Group> {
    let snapshot = Journal::snapshot(directory)?;
    let standing = snapshot.standing(key);
    let JournalSnapshot { entries, times, in_use, has_lock, damage, .. } = snapshot;
    let mut group = Group {
        id: directory.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        directory: directory.to_owned(),
        idle_seconds: clock::seconds_since(&times.1),
        started: times.0,
        damage,
        entries: entries.len(),
        ..Group::default()
    };
    entries.iter().for_each(|entry| follow(&mut group, entry));
    if let Standing::Untrusted { reason, .. } = standing {
        group.untrusted = Some(reason);
    }
    group.state = if in_use {
        State::Running
    } else if group.untrusted.is_some() {
        State::Untrusted
    } else if group.damage.is_some() {
        State::Damaged
    } else if !has_lock || group.host.as_ref().is_some_and(HostId::is_another) {
        State::Elsewhere
    } else {
        State::Dead
    };
    Ok(group)
}

fn follow(group: &mut Group, entry: &Entry) {
    let named = |targets: &mut Vec<Target>, name: &String| {
        targets.iter().position(|target| target.name == *name)
    };
    match entry {
        Entry::GroupStarted { words, working_directory, targets, host, .. } => {
            group.words.clone_from(words);
            group.working_directory = PathBuf::from(working_directory);
            group.host.clone_from(host);
            let target = |GroupTarget { name, provider }: &GroupTarget| Target {
                name: name.clone(),
                provider: provider.clone(),
                ..Target::default()
            };
            group.targets = targets.iter().map(target).collect();
        }
        Entry::GroupResumed { host, .. } => group.host.clone_from(host),
        Entry::TargetStarted { target, run } => {
            if let Some(place) = named(&mut group.targets, target) {
                let target = &mut group.targets[place];
                (target.run, target.exit_code, target.result) = (Some(run.clone()), None, None);
            }
        }
        Entry::TargetEnded { target, code, result } => {
            if let Some(place) = named(&mut group.targets, target) {
                let target = &mut group.targets[place];
                (target.exit_code, target.result) = (Some(*code), Some(result.clone()));
            }
        }
        Entry::DirectoryShared { artifacts } => group.shared.push(artifacts.clone()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn started(id: &str) -> Entry {
        let target =
            |name: &str| GroupTarget { name: name.to_owned(), provider: "acme".to_owned() };
        Entry::GroupStarted {
            group: id.to_owned(),
            tool: String::new(),
            words: vec!["--disk=d".to_owned()],
            working_directory: "/w".to_owned(),
            targets: ["one", "two", "three"].map(target).to_vec(),
            host: Some(HostId::of_this()),
        }
    }

    #[test]
    fn the_journal_says_which_targets_are_done() {
        let base = tempfile::tempdir().unwrap();
        let key = Arc::new(Key::of_bytes(&[1; 32]));
        let mut journal = Journal::open(&directory(base.path(), "g-1"), &key).unwrap();
        journal.append(started("g-1")).unwrap();
        let run = |target: &str, run: &str| Entry::TargetStarted {
            target: target.to_owned(),
            run: run.to_owned(),
        };
        let ended = |target: &str, code| Entry::TargetEnded {
            target: target.to_owned(),
            code,
            result: Value::Null,
        };
        for entry in [
            run("one", "r-1"),
            run("two", "r-2"),
            ended("two", 7),
            ended("one", 0),
            run("two", "r-3"),
        ] {
            journal.append(entry).unwrap();
        }
        let found = |state: State| {
            let groups = list(base.path(), &key);
            assert_eq!((groups.len(), groups[0].state), (1, state));
            groups[0].clone()
        };
        let group = found(State::Running);
        assert!(group.refusal().unwrap().message.contains("at work"));
        let states: Vec<(Option<&str>, Option<u8>, bool)> = group
            .targets
            .iter()
            .map(|one| (one.run.as_deref(), one.exit_code, one.is_done()))
            .collect();
        assert_eq!(
            states,
            [(Some("r-1"), Some(0), true), (Some("r-3"), None, false), (None, None, false)]
        );
        drop(journal);
        assert!(found(State::Dead).refusal().is_none());
        assert!(find(base.path(), "g-2", &key).unwrap().is_none());
        // A journal that was copied from another build is not trusted.
        fs::rename(directory(base.path(), "g-1"), directory(base.path(), "g-9")).unwrap();
        let group = found(State::Untrusted);
        assert!(group.refusal().unwrap().message.contains("not trusted"));
    }
}
