//! The run's journal: what was started, what is done, and every resource a provider creates, written
//! down before it is created. Append-only JSON lines, on disk before `append` returns.
//!
//! State on the server is the truth; the journal is how to find it again.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
};

use build_image_plugin_api::{Event, Resource};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result, Stage};

/// Name of the journal in a run's folder.
const FILE: &str = "journal.jsonl";

/// What a line says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Entry {
    /// The first line.
    RunStarted {
        /// Identifier of the run.
        run_id: String,
        /// Version of this tool.
        tool: String,
        /// Provider.
        platform: String,
    },
    /// A step begins.
    StepStarted {
        /// Which.
        step: String,
    },
    /// A step is done.
    StepDone {
        /// Which.
        step: String,
        /// What later steps need of it.
        facts: Value,
    },
    /// A provider's resource changed.
    Resource {
        /// How.
        event: Event,
    },
    /// A provider keeps a document.
    Checkpoint {
        /// Under which key.
        key: String,
        /// The document.
        document: Value,
    },
    /// The last line.
    RunDone {
        /// `success`, or the error's kind.
        result: String,
    },
    /// A line of a later version.
    #[serde(other)]
    Unknown,
}

#[derive(Serialize, Deserialize)]
struct Line {
    time: String,
    #[serde(flatten)]
    entry: Entry,
}

/// An open journal, locked against a second process.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    entries: Vec<Entry>,
}

impl Journal {
    /// Opens the journal in a folder, making both when they do not exist.
    ///
    /// # Errors
    /// When it cannot be written, or another process uses it.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        let path = folder.join(FILE);
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|error| failed(&path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    Stage::Disk,
                    format!("run `{}` is in use by another process", folder.display()),
                )
                .hint("wait until the other build is done"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&path, &error)),
        }
        let lines = BufReader::new(&file).lines().map_while(std::result::Result::ok);
        // A torn last line is what a killed process leaves; everything before it stands.
        let entries = lines.filter_map(|line| serde_json::from_str::<Line>(&line).ok());
        let entries = entries.map(|line| line.entry).collect();
        let mut journal = Self { file, path, entries };
        journal.end_torn_line()?;
        Ok(journal)
    }

    /// Writes a line and waits until it is on disk.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn append(&mut self, entry: Entry) -> Result<()> {
        let line = Line { time: crate::clock::now(), entry };
        let mut text = serde_json::to_string(&line).map_err(|error| {
            Error::new(Stage::Bug, "a journal line cannot be written").because(&error)
        })?;
        text.push('\n');
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|error| failed(&self.path, &error))?;
        self.entries.push(line.entry);
        Ok(())
    }

    /// Resources that were planned or created and are not gone, in the order of their creation.
    #[must_use]
    pub fn resources(&self) -> Vec<Resource> {
        let mut open: Vec<Resource> = Vec::new();
        for entry in &self.entries {
            let Entry::Resource { event } = entry else { continue };
            let same = |resource: &Resource| {
                let (kind, name) = (resource.kind.clone(), resource.name.clone());
                move |known: &Resource| known.kind == kind && known.name == name
            };
            match event {
                Event::ResourcePlanned { resource } | Event::ResourceCreated { resource } => {
                    match open.iter().position(same(resource)) {
                        Some(position) => open[position] = resource.clone(),
                        None => open.push(resource.clone()),
                    }
                }
                Event::ResourceGone { resource } => {
                    if let Some(position) = open.iter().position(same(resource)) {
                        open.remove(position);
                    }
                }
                _ => {}
            }
        }
        open
    }

    /// The latest document a provider kept under a key.
    #[must_use]
    pub fn checkpoint(&self, wanted: &str) -> Option<Value> {
        self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Checkpoint { key, document } if key == wanted => Some(document.clone()),
            _ => None,
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn end_torn_line(&mut self) -> Result<()> {
        let text = fs::read(&self.path).map_err(|error| failed(&self.path, &error))?;
        if text.last().is_some_and(|&byte| byte != b'\n') {
            self.file.write_all(b"\n").map_err(|error| failed(&self.path, &error))?;
        }
        Ok(())
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    let hint = if error.kind() == std::io::ErrorKind::StorageFull {
        "free some space, or set ARTIFACTS_DIR to a larger file system"
    } else {
        "set ARTIFACTS_DIR to a folder this user may write to"
    };
    Error::new(Stage::Disk, format!("cannot write the run's journal `{}`", path.display()))
        .because(error)
        .hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str) -> Resource {
        Resource::new("object", name)
    }

    #[test]
    fn resources_and_checkpoints_survive_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        for event in [
            Event::ResourcePlanned { resource: resource("a") },
            Event::ResourcePlanned { resource: resource("b") },
            Event::ResourceCreated { resource: resource("a").with_id("1") },
            Event::ResourceGone { resource: resource("b") },
        ] {
            journal.append(Entry::Resource { event }).unwrap();
        }
        journal.append(Entry::Checkpoint { key: "k".into(), document: 1.into() }).unwrap();
        let path = journal.path().to_owned();
        drop(journal);
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(b"{\"time\":\"x\",\"what\":\"res");
        fs::write(&path, text).unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.resources(), [resource("a").with_id("1")]);
        journal.append(Entry::Checkpoint { key: "k".into(), document: 2.into() }).unwrap();
        drop(journal);
        assert_eq!(Journal::open(folder.path()).unwrap().checkpoint("k"), Some(2.into()));
    }

    #[test]
    fn a_journal_in_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Journal::open(folder.path()).unwrap();
        assert!(Journal::open(folder.path()).unwrap_err().message.contains("in use"));
    }
}
