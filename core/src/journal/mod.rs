//! Writes the run's journal: the steps that were started and finished, and every resource of a provider, recorded
//! before it is created. Append-only JSON lines, each with a signature and a checksum, on disk before `append`
//! returns.
//!
//! ```text
//! entry.rs  the entries                        line.rs      text, signature, checksum; torn and damaged lines
//! key.rs    the user's key, which signs lines  standing.rs  whether a journal is trusted
//! host.rs   the host of a process              crash_point.rs  crash points for tests
//! ```
//!
//! The state on the server is authoritative; the journal is needed to find it again.

#[cfg(debug_assertions)]
mod crash_point;
mod entry;
mod host;
mod key;
mod line;
mod standing;

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use build_image_plugin_api::{Event, Resource};
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    artifacts::{cannot_lock, make_private, more_space, open_unlinked},
    error::{Error, Result, Stage},
    lock,
    settings::keys::ARTIFACTS_DIR,
    trust::open_regular,
};
pub(crate) use key::state_directory;
use line::{Line, Seal};
pub(crate) use standing::untrusted_error;
pub use {
    entry::{Entry, GroupTarget},
    host::HostId,
    key::Key,
    standing::Standing,
};

/// Name of the journal in a run's directory.
pub(crate) const FILE: &str = "journal.jsonl";

/// An open journal, locked against a second process.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    entries: Vec<Entry>,
    /// Bytes of complete lines; the rest is torn.
    whole: u64,
    /// Their digest.
    digest: Sha256,
    key: Arc<Key>,
    #[cfg(debug_assertions)]
    crash_point: crash_point::CrashPoint,
}

/// A journal as it was read, without a lock.
#[derive(Debug)]
pub struct JournalSnapshot {
    /// Its entries, without damaged lines.
    pub entries: Vec<Entry>,
    /// Time of the first and of the last line; RFC 3339.
    pub times: (String, String),
    /// Whether a process uses it.
    pub in_use: bool,
    /// Whether its lock could be examined; some file systems do not support locks.
    pub has_lock: bool,
    /// Why it cannot be read completely, if that is the case.
    pub damage: Option<Error>,
    path: PathBuf,
    seal: Option<Seal>,
    /// Why others could have changed it, if they could.
    doubt: Option<String>,
}

impl JournalSnapshot {
    /// Returns whether it is trusted: this user wrote it, and no other user could have changed it.
    #[must_use]
    pub fn standing(&self, key: &Key) -> Standing {
        standing::of(&self.path, &self.entries, self.seal.as_ref(), self.doubt.as_deref(), key)
    }
}

impl Journal {
    /// Opens the journal in a directory; creates both when they do not exist.
    ///
    /// # Errors
    /// When it cannot be written, another process uses it, a line is damaged, or it is not this user's.
    pub fn open(directory: &Path, key: &Arc<Key>) -> Result<Self> {
        let (journal, standing, torn) = Self::take(directory, key)?;
        match standing {
            // An empty journal may be anywhere the user wants.
            Standing::Untrusted { reason, .. } if !journal.is_fresh() => {
                Err(untrusted_error(directory, &reason))
            }
            _ => journal.without(torn),
        }
    }

    /// Creates a journal in memory, for calls of a provider that are not a run: nothing of it remains, however this process
    /// ends.
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub fn in_memory(key: &Arc<Key>) -> Result<Self> {
        let path = PathBuf::from("journal in memory");
        let file = memfd_create("build-image-journal", MemfdFlags::CLOEXEC);
        let file = file.map_err(|error| cannot_write(&path, &error.into()))?;
        Ok(Self {
            file: File::from(file),
            path,
            entries: Vec::new(),
            whole: 0,
            digest: Sha256::new(),
            key: Arc::clone(key),
            #[cfg(debug_assertions)]
            crash_point: crash_point::CrashPoint::of_process(),
        })
    }

    /// Opens a journal of another user, and signs it with this user's key: the user has seen its content.
    ///
    /// # Errors
    /// As [`Journal::open`]; also without a key, and when others can change its content at any time.
    pub fn adopt(directory: &Path, key: &Arc<Key>) -> Result<Self> {
        if let Some(why) = key.missing() {
            return Err(standing::cannot_sign(&directory.join(FILE), why));
        }
        let (journal, standing, torn) = Self::take(directory, key)?;
        if let Standing::Untrusted { reason, adoptable: false } = &standing {
            return Err(standing::cannot_adopt(&journal.path, reason));
        }
        let mut journal = journal.without(torn)?;
        if standing != Standing::Trusted {
            journal.append(Entry::RunAdopted { tool: env!("CARGO_PKG_VERSION").to_owned() })?;
        }
        Ok(journal)
    }

    /// Truncates the file after the complete lines.
    fn without(self, torn: bool) -> Result<Self> {
        if torn {
            self.file.set_len(self.whole).map_err(|error| cannot_write(&self.path, &error))?;
        }
        Ok(self)
    }

    /// Locks and reads a journal; returns also whether a torn line follows its complete lines.
    fn take(directory: &Path, key: &Arc<Key>) -> Result<(Self, Standing, bool)> {
        let path = directory.join(FILE);
        let file = loop {
            make_private(directory).map_err(|error| cannot_write(directory, &error))?;
            let mut options = OpenOptions::new();
            options.read(true).append(true).create(true).mode(0o600);
            let file = match open_unlinked(&mut options, &path) {
                // A clean-up removed the new directory because it was still empty.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened.map_err(|error| cannot_write(&path, &error))?,
            };
            lock_alone(&file, directory)?;
            if file.metadata().map_err(|error| cannot_write(&path, &error))?.nlink() > 0 {
                break file;
            }
        };
        let mut text = Vec::new();
        (&file).read_to_end(&mut text).map_err(|error| cannot_write(&path, &error))?;
        let contents = line::read(&text, &path);
        if let Some(damage) = contents.damage {
            return Err(damage);
        }
        let doubt = standing::doubt(&path, &file);
        let seal = contents.seal.as_ref();
        let standing = standing::of(&path, &contents.entries, seal, doubt.as_deref(), key);
        let whole = contents.whole as u64;
        // The entries of its directories must be on disk too, or the journal may be missing after a power cut.
        for directory in
            directory.ancestors().take(3).filter(|directory| !directory.as_os_str().is_empty())
        {
            let synced = File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(|error| cannot_write(directory, &error))?;
        }
        let journal = Self {
            file,
            path,
            entries: contents.entries,
            whole,
            digest: contents.digest,
            key: Arc::clone(key),
            #[cfg(debug_assertions)]
            crash_point: crash_point::CrashPoint::of_process(),
        };
        Ok((journal, standing, whole < text.len() as u64))
    }

    /// Reads a journal without locking it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn snapshot(directory: &Path) -> Result<JournalSnapshot> {
        let path = directory.join(FILE);
        let cannot_read = |error: std::io::Error| {
            Error::new(Stage::Disk, format!("cannot read the run's journal `{}`", path.display()))
                .caused_by(&error)
        };
        let file = open_regular(&path).map_err(cannot_read)?;
        let mut text = Vec::new();
        (&file).read_to_end(&mut text).map_err(cannot_read)?;
        // Afterwards: whoever began meanwhile is still found at work.
        let locked = lock::probe(&file);
        let contents = line::read(&text, &path);
        Ok(JournalSnapshot {
            entries: contents.entries,
            times: contents.times.unwrap_or_default(),
            in_use: matches!(locked, Ok(true)),
            has_lock: locked.is_ok(),
            damage: contents.damage,
            doubt: standing::doubt(&path, &file),
            seal: contents.seal,
            path,
        })
    }

    /// Locks the journal of a run whose files are removed: other processes cannot use it until the returned file is
    /// closed.
    ///
    /// # Errors
    /// When another process uses it.
    pub fn hold(directory: &Path) -> Result<Option<File>> {
        let path = directory.join(FILE);
        match open_regular(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(cannot_write(&path, &error)),
            Ok(file) => {
                lock_alone(&file, directory)?;
                // Whoever had it may have removed it.
                let found = file.metadata().map_err(|error| cannot_write(&path, &error))?;
                Ok((found.nlink() > 0).then_some(file))
            }
        }
    }

    /// Returns whether nothing has been written into it yet.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns its entries.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the facts of a finished step.
    #[must_use]
    pub fn step_done(&self, name: &str) -> Option<&Value> {
        self.entries.iter().rev().find_map(|entry| match entry {
            Entry::StepDone { step, facts } if step == name => Some(facts),
            _ => None,
        })
    }

    /// Writes a line and waits until it is on disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&mut self, entry: Entry) -> Result<()> {
        let line = Line { time: crate::clock::now(), entry };
        let text = line.text(&self.key, &self.digest)?;
        #[cfg(debug_assertions)]
        self.crash_point
            .before(&self.file, &text)
            .map_err(|error| cannot_write(&self.path, &error))?;
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // An incomplete line must not precede a later one.
            let _ = self.file.set_len(self.whole);
            return Err(cannot_write(&self.path, &error));
        }
        self.whole += text.len() as u64;
        self.digest.update(&text);
        #[cfg(debug_assertions)]
        self.crash_point.after();
        self.entries.push(line.entry);
        Ok(())
    }

    /// Returns the resources that were planned or created and are neither removed nor released, in the order of their
    /// creation.
    #[must_use]
    pub fn resources(&self) -> Vec<Resource> {
        open_resources(&self.entries)
    }

    /// Returns the latest checkpoint that a provider stored under a key.
    #[must_use]
    pub fn checkpoint(&self, name: &str) -> Option<Value> {
        self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Checkpoint { key, document } if key == name => Some(document.clone()),
            _ => None,
        })
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns whether a process has worked on a build since the first `seen` entries of its journal were read. An adoption, and
/// a clean-up, which removes what is recorded, do not count.
#[must_use]
pub fn is_continued(seen: usize, now: &[Entry]) -> bool {
    let is_clean_up = |entry: &Entry| {
        let is_gone = matches!(entry, Entry::Resource { event } if matches!(event, Event::ResourceGone { .. }));
        is_gone || matches!(entry, Entry::RunAdopted { .. })
    };
    now.get(seen..).is_none_or(|more| !more.iter().all(is_clean_up))
}

/// Returns the error for a build that another process has continued, completed or removed since this one read its journal.
#[must_use]
pub fn continued(id: &str) -> Error {
    let text = format!("run `{id}` was continued by another process meanwhile");
    Error::new(Stage::InUse, text).hint("build-image runs lists what is left of it")
}

/// Returns the resources that entries plan or create and that are neither removed nor released.
#[must_use]
pub fn open_resources(entries: &[Entry]) -> Vec<Resource> {
    let mut open: Vec<Resource> = Vec::new();
    for entry in entries {
        let event = match entry {
            Entry::Resource { event } => event,
            Entry::ProductsReleased { .. } => {
                open.retain(|other| !other.deliverable);
                continue;
            }
            _ => continue,
        };
        match event {
            Event::ResourcePlanned { resource } | Event::ResourceCreated { resource } => {
                match open.iter().position(|other| other.is(resource)) {
                    Some(position) => open[position] = resource.clone(),
                    None => open.push(resource.clone()),
                }
            }
            Event::ResourceGone { resource } => {
                open.retain(|other| !other.is(resource));
            }
            _ => {}
        }
    }
    open
}

fn lock_alone(file: &File, directory: &Path) -> Result<()> {
    lock::take(file).map_err(|error| match error {
        TryLockError::WouldBlock => {
            let text = format!("run `{}` is in use by another process", directory.display());
            Error::new(Stage::InUse, text).hint("wait until the other build is done")
        }
        TryLockError::Error(error) => {
            cannot_lock("lock the journal", &directory.join(FILE), &error, ARTIFACTS_DIR)
        }
    })
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Error {
    let hint = if error.kind() == ErrorKind::StorageFull {
        more_space(ARTIFACTS_DIR)
    } else {
        format!("set {ARTIFACTS_DIR} to a directory this user may write to")
    };
    Error::new(Stage::Disk, format!("cannot write the run's journal `{}`", path.display()))
        .caused_by(error)
        .hint(hint)
}

#[cfg(test)]
mod tests;
