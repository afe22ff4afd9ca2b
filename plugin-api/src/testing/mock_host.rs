//! Implements a host in memory: records the calls of a provider, and answers with values that a test supplied. It
//! does not emulate a cloud.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write as _,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;

use crate::{
    Context, Disk, DiskSpec, Error, ErrorKind, Event, Host, LogRecord, Progress, Resource, Result,
    Secret, WrittenDisk, context::no_disk_write,
};

/// Everything that a test may inspect afterwards.
#[derive(Default)]
struct State {
    logs: Vec<LogRecord>,
    progress: Vec<Progress>,
    events: Vec<Event>,
    checkpoints: BTreeMap<String, Value>,
    disks: Vec<Arc<Vec<u8>>>,
    reads: u64,
    cancelled: bool,
    refuses_events: bool,
}

/// Returns resources that were planned or created and still exist, the latest state of each.
pub(crate) fn open_resources(events: impl IntoIterator<Item = Event>) -> Vec<Resource> {
    let mut open: Vec<Resource> = Vec::new();
    for event in events {
        let (resource, gone) = match event {
            Event::ResourcePlanned { resource } | Event::ResourceCreated { resource } => {
                (resource, false)
            }
            Event::ResourceGone { resource } => (resource, true),
            Event::Milestone { .. } | Event::Warning { .. } | Event::Unknown => continue,
        };
        open.retain(|earlier| !earlier.is(&resource));
        if !gone {
            open.push(resource);
        }
    }
    open
}

/// A [`Host`] for unit tests of providers.
#[derive(Default)]
pub struct MockHost {
    state: Mutex<State>,
    changed: Condvar,
    secrets: BTreeMap<String, String>,
    content: Vec<u8>,
    cancel_after_reads: AtomicU64,
    writes_disks: bool,
}

impl MockHost {
    /// Creates a host without secrets and with an empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a secret setting.
    #[must_use]
    pub fn with_secret(mut self, key: &str, value: &str) -> Self {
        self.secrets.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets the bytes that every view returns, whatever its format.
    #[must_use]
    pub fn with_disk(mut self, bytes: Vec<u8>) -> Self {
        self.content = bytes;
        self
    }

    /// Writes disks to files, as hosts do since 1.1; without digests. Otherwise providers read them.
    #[must_use]
    pub fn writing_disks(mut self) -> Self {
        self.writes_disks = true;
        self
    }

    /// Cancels the step when the disk was read this many times.
    #[must_use]
    pub fn cancel_after_reads(self, reads: u64) -> Self {
        self.cancel_after_reads.store(reads, Ordering::Relaxed);
        self
    }

    /// Returns a context over this host.
    #[must_use]
    pub fn context(self: &Arc<Self>) -> Context {
        let host: Arc<dyn Host> = Arc::clone(self) as Arc<dyn Host>;
        Context::new(host)
    }

    /// Asks the provider to stop, as Ctrl-C does.
    pub fn cancel(&self) {
        self.lock().cancelled = true;
        self.changed.notify_all();
    }

    /// Refuses all later events, like a host whose journal cannot be written.
    pub fn refuse_events(&self) {
        self.lock().refuses_events = true;
    }

    /// Returns the events so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// Returns resources that were planned or created and still exist, the latest state of each.
    #[must_use]
    pub fn resources(&self) -> Vec<Resource> {
        open_resources(self.events())
    }

    /// Returns the log records so far.
    #[must_use]
    pub fn logs(&self) -> Vec<LogRecord> {
        self.lock().logs.clone()
    }

    /// Returns the progress reports so far.
    #[must_use]
    pub fn progress_reports(&self) -> Vec<Progress> {
        self.lock().progress.clone()
    }

    /// Returns the checkpoints so far; pass them to a second host to test a resumed run.
    #[must_use]
    pub fn checkpoints(&self) -> BTreeMap<String, Value> {
        self.lock().checkpoints.clone()
    }

    /// Sets the checkpoints of an earlier run.
    #[must_use]
    pub fn with_checkpoints(self, checkpoints: BTreeMap<String, Value>) -> Self {
        self.lock().checkpoints = checkpoints;
        self
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Host for MockHost {
    fn log(&self, record: LogRecord) {
        self.lock().logs.push(record);
    }

    fn progress(&self, progress: Progress) {
        self.lock().progress.push(progress);
    }

    fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    fn wait(&self, duration: Duration) -> bool {
        let state = self.lock();
        match self.changed.wait_timeout_while(state, duration, |state| !state.cancelled) {
            Ok((state, _)) => state.cancelled,
            Err(poisoned) => poisoned.into_inner().0.cancelled,
        }
    }

    fn event(&self, event: Event) -> Result<()> {
        let mut state = self.lock();
        if state.refuses_events {
            return Err(Error::new(ErrorKind::Local, "the event could not be recorded"));
        }
        state.events.push(event);
        Ok(())
    }

    fn secret(&self, key: &str) -> Result<Option<Secret>> {
        Ok(self.secrets.get(key).map(Secret::new))
    }

    fn checkpoint_save(&self, key: &str, document: &Value) -> Result<()> {
        self.lock().checkpoints.insert(key.to_owned(), document.clone());
        Ok(())
    }

    fn checkpoint_load(&self, key: &str) -> Result<Option<Value>> {
        Ok(self.lock().checkpoints.get(key).cloned())
    }

    fn make_disk(&self, spec: &DiskSpec) -> Result<Disk> {
        let mut state = self.lock();
        let id = state.disks.len() as u64;
        state.disks.push(Arc::new(self.content.clone()));
        Ok(Disk {
            id,
            spec: spec.clone(),
            virtual_size: self.content.len() as u64,
            length: Some(self.content.len() as u64),
            length_limit: self.content.len() as u64,
            deferred_prefix_len: 0,
            file_name: format!("mock.{}", spec.file_suffix()),
            identity: "mock".to_owned(),
            ..Disk::default()
        })
    }

    fn disk_read_at(&self, disk: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let missing = || Error::new(ErrorKind::NotFound, format!("disk {disk} does not exist"));
        let mut state = self.lock();
        state.reads += 1;
        let limit = self.cancel_after_reads.load(Ordering::Relaxed);
        if limit > 0 && state.reads >= limit {
            state.cancelled = true;
            self.changed.notify_all();
        }
        let position = usize::try_from(disk).map_err(|_| missing())?;
        let content = state.disks.get(position).cloned().ok_or_else(missing)?;
        drop(state);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let count = buffer.len().min(content.len() - start);
        buffer[..count].copy_from_slice(&content[start..start + count]);
        Ok(count)
    }

    fn disk_write(&self, disk: u64, path: &Path) -> Result<WrittenDisk> {
        if !self.writes_disks {
            return Err(no_disk_write());
        }
        let missing = || Error::new(ErrorKind::NotFound, format!("disk {disk} does not exist"));
        let position = usize::try_from(disk).map_err(|_| missing())?;
        let content = self.lock().disks.get(position).cloned().ok_or_else(missing)?;
        let write_error = |error| Error::io(format!("cannot write `{}`", path.display()), &error);
        let mut file = File::create_new(path).map_err(write_error)?;
        file.write_all(&content).and_then(|()| file.sync_all()).map_err(write_error)?;
        Ok(WrittenDisk::new(content.len() as u64))
    }
}
