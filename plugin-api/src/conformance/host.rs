//! Implements the host of a provider under test: records everything, cancels on command, and knows which step is
//! running.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::subject::Ways;
use crate::{
    Disk, DiskSpec, Error, ErrorKind, Event, Host, LogRecord, Progress, Resource, Result, Secret,
};

/// Maximum number of log records and events that are kept.
const MOST: usize = 10_000;
/// Longest time until a provider in a separate process learns that it must stop; the read that triggers the stop
/// lasts longer.
const NEWS: Duration = Duration::from_millis(250);
/// Number of bytes at the start of a plain disk that are not zero.
const DATA: u64 = 1 << 20;

/// The content of a disk.
pub trait DiskBytes: Send + Sync {
    /// Returns the number of bytes.
    fn length(&self) -> u64;

    /// Fills `buffer` from `offset`; returns the number of bytes read (fewer than requested only at the end).
    ///
    /// # Errors
    /// When they cannot be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize>;
}

/// Returns a raw disk with a boot signature, a mebibyte of data and zeros, whatever format was requested.
///
/// # Errors
/// None.
pub fn plain_disk(_: &DiskSpec, size: u64) -> Result<Arc<dyn DiskBytes>> {
    Ok(Arc::new(Plain(size)))
}

struct Plain(u64);

impl DiskBytes for Plain {
    fn length(&self) -> u64 {
        self.0
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let left = usize::try_from(self.0.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        buffer[..count].fill(0);
        for (position, byte) in (offset..DATA.min(self.0)).zip(&mut buffer[..count]) {
            *byte = match position {
                510 => 0x55,
                511 => 0xaa,
                _ => position.wrapping_mul(0x9e37_79b9).to_le_bytes()[2],
            };
        }
        Ok(count)
    }
}

/// When a step is asked to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trigger {
    #[default]
    Never,
    /// When it first reads the disk.
    FirstRead,
    /// When it first polls for a stop, waits or reports progress.
    FirstCall,
    /// Never; instead the disk cannot be read, so that the step fails.
    Unreadable,
    /// When it reports this resource as created, counted from 0. The report is refused, as though the build had
    /// been stopped while the request that creates it was running.
    Created(usize),
}

/// What a provider reported while a step ran.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Reports {
    pub(super) events: Vec<(String, Event)>,
    /// Step, task, done, total.
    pub(super) progress: Vec<(String, u32, u64, u64)>,
    /// Calls while no step was running.
    pub(super) late: Vec<String>,
    /// Resources announced by a step that knew that it must stop.
    pub(super) begun: Vec<String>,
}

#[derive(Default)]
struct State {
    reports: Reports,
    logs: Vec<LogRecord>,
    checkpoints: BTreeMap<String, Value>,
    disks: Vec<Arc<dyn DiskBytes>>,
    /// The running step; `last` is the step that returned last.
    step: Option<&'static str>,
    last: &'static str,
    cancelled: Option<Instant>,
    /// The provider has learned that it must stop, or the step began after the stop.
    knows: bool,
    trigger: Trigger,
    /// Resources reported as created since the trigger was set.
    created: usize,
    /// The running step began after the stop.
    stopped_before: bool,
    step_began: Option<Instant>,
    /// The provider runs in a separate process.
    apart: bool,
    read_to: u64,
    /// The value of `read_to` when a trigger asked to stop.
    read_when_cancelled: u64,
}

/// Calls that must not happen when no step runs: they would be attributed to another step.
const REPORTING_CALLS: [&str; 3] = ["an event", "a progress", "a checkpoint"];

impl State {
    fn late(&mut self, what: &str) {
        if self.reports.late.len() < MOST {
            let text = format!("{what} after `{}` had returned", self.last);
            self.reports.late.push(text);
        }
    }

    /// Stops the step.
    fn stop(&mut self) {
        self.trigger = Trigger::Never;
        self.cancelled = Some(Instant::now());
    }

    /// Returns to the provider whether the step must stop.
    fn poll_cancelled(&mut self) -> bool {
        self.knows |= self.cancelled.is_some();
        self.cancelled.is_some()
    }

    /// Records a resource that is announced although the step knows that it must stop. A provider in a separate
    /// process learns it shortly after its host.
    fn note_begun(&mut self, resource: &Resource) {
        // A resource that is announced again, with more attributes, is not new.
        let events = self.reports.events.iter().map(|(_, event)| event.clone());
        if crate::testing::open_resources(events).iter().any(|earlier| earlier.is(resource)) {
            return;
        }
        let since = if self.stopped_before { self.step_began } else { self.cancelled };
        let at_once = self.stopped_before && !self.apart;
        let late = at_once || since.is_some_and(|since| since.elapsed() >= NEWS);
        if self.step.is_some() && self.knows && late && self.reports.begun.len() < MOST {
            self.reports.begun.push(resource.label());
        }
    }
}

/// Host of a provider under test.
pub(super) struct ProbeHost {
    state: Mutex<State>,
    changed: Condvar,
    secrets: BTreeMap<String, Option<String>>,
    ways: Ways,
    disk_size: u64,
}

impl ProbeHost {
    pub(super) fn new(
        secrets: BTreeMap<String, Option<String>>,
        ways: Ways,
        disk_size: u64,
        apart: bool,
    ) -> Arc<Self> {
        let state = Mutex::new(State { apart, ..State::default() });
        Arc::new(Self { state, changed: Condvar::new(), secrets, ways, disk_size })
    }

    /// Runs a step.
    pub(super) fn during<T>(&self, step: &'static str, call: impl FnOnce() -> T) -> T {
        let mut state = self.lock();
        state.step = Some(step);
        state.stopped_before = state.cancelled.is_some();
        state.step_began = Some(Instant::now());
        state.knows = state.stopped_before;
        drop(state);
        let result = call();
        let mut state = self.lock();
        (state.step, state.last) = (None, step);
        result
    }

    pub(super) fn cancel(&self) {
        self.lock().cancelled = Some(Instant::now());
        self.changed.notify_all();
    }

    pub(super) fn cancel_on(&self, trigger: Trigger) {
        let mut state = self.lock();
        (state.trigger, state.cancelled, state.created) = (trigger, None, 0);
    }

    /// Returns whether the step was asked to stop since the trigger was set.
    pub(super) fn is_stopped(&self) -> bool {
        self.lock().cancelled.is_some()
    }

    /// Returns how long ago the step was asked to stop.
    pub(super) fn since_cancel(&self) -> Option<Duration> {
        self.lock().cancelled.map(|at| at.elapsed())
    }

    /// Returns how far the disk had been read when the step was asked to stop, in bytes.
    pub(super) fn read_when_cancelled(&self) -> u64 {
        self.lock().read_when_cancelled
    }

    /// Sleeps; a cancellation does not shorten it.
    pub(super) fn pause(&self, duration: Duration) {
        let _ = self.changed.wait_timeout_while(self.lock(), duration, |_| true);
    }

    pub(super) fn reports(&self) -> Reports {
        self.lock().reports.clone()
    }

    /// Returns everything that a provider wrote, as texts with their places.
    pub(super) fn texts(&self) -> Vec<(String, String)> {
        let state = self.lock();
        let logs = state.logs.iter().filter(|record| !record.may_contain_requests());
        let logs = logs.map(|record| ("a log record", format!("{record:?}")));
        let events =
            state.reports.events.iter().map(|(_, event)| ("an event", format!("{event:?}")));
        let kept = state.checkpoints.iter();
        let kept = kept.map(|(key, value)| ("a checkpoint", format!("{key} {value}")));
        logs.chain(events).chain(kept).map(|(place, text)| (place.to_owned(), text)).collect()
    }

    /// Returns panics that were logged.
    pub(super) fn panics(&self) -> Vec<String> {
        let state = self.lock();
        let panics = state.logs.iter().filter(|record| record.target == "panic");
        panics.map(|record| record.message.replace('\n', " ")).collect()
    }

    fn note(&self, what: &str, act: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        if state.step.is_none() && (REPORTING_CALLS.contains(&what) || state.last == "drop") {
            state.late(what);
        }
        if state.step.is_some() && state.trigger == Trigger::FirstCall {
            state.stop();
            self.changed.notify_all();
        }
        act(&mut state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for ProbeHost {
    fn log(&self, record: LogRecord) {
        let mut state = self.lock();
        if state.step.is_none() && state.last == "drop" {
            state.late("a log record");
        }
        if state.logs.len() < MOST || record.target == "panic" {
            state.logs.push(record);
        }
    }

    fn progress(&self, progress: Progress) {
        self.note("a progress", |state| {
            let step = state.step.unwrap_or(state.last).to_owned();
            if state.reports.progress.len() < MOST {
                let Progress { task, done, total, .. } = progress;
                state.reports.progress.push((step, task, done, total));
            } else if let Some(last) = state.reports.progress.last_mut() {
                *last = (step, progress.task, progress.done, progress.total);
            }
        });
    }

    fn is_cancelled(&self) -> bool {
        let mut cancelled = false;
        self.note("a question whether to stop", |state| cancelled = state.poll_cancelled());
        cancelled
    }

    fn wait(&self, duration: Duration) -> bool {
        self.note("a wait", |_| {});
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), duration, |state| state.cancelled.is_none());
        match waited {
            Ok((mut state, _)) => state.poll_cancelled(),
            Err(poisoned) => poisoned.into_inner().0.poll_cancelled(),
        }
    }

    fn event(&self, event: Event) -> Result<()> {
        let mut refused = false;
        self.note("an event", |state| {
            match &event {
                Event::ResourcePlanned { resource } => state.note_begun(resource),
                Event::ResourceCreated { .. } => {
                    refused = state.trigger == Trigger::Created(state.created);
                    state.created += 1;
                }
                _ => {}
            }
            if refused {
                state.stop();
                return;
            }
            let step = state.step.unwrap_or(state.last).to_owned();
            if state.reports.events.len() < MOST {
                state.reports.events.push((step, event));
            }
        });
        if refused {
            self.changed.notify_all();
            return Err(Error::cancelled());
        }
        Ok(())
    }

    fn secret(&self, key: &str) -> Result<Option<Secret>> {
        let secret = self.secrets.get(key).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("`{key}` is no secret setting of this provider"),
            )
        })?;
        Ok(secret.as_ref().map(Secret::new))
    }

    fn checkpoint_save(&self, key: &str, document: &Value) -> Result<()> {
        self.note("a checkpoint", |state| {
            state.checkpoints.insert(key.to_owned(), document.clone());
        });
        Ok(())
    }

    fn checkpoint_load(&self, key: &str) -> Result<Option<Value>> {
        Ok(self.lock().checkpoints.get(key).cloned())
    }

    fn make_disk(&self, spec: &DiskSpec) -> Result<Disk> {
        let disk = (self.ways.disk)(spec, self.disk_size)?;
        let length = disk.length();
        let mut id = 0;
        self.note("a request for a disk", |state| {
            id = state.disks.len() as u64;
            state.disks.push(disk);
        });
        Ok(Disk {
            id,
            spec: spec.clone(),
            virtual_size: self.disk_size,
            length: Some(length),
            length_limit: length,
            file_name: format!("conformance.{}", spec.file_suffix()),
            identity: format!("conformance {length}"),
            ..Disk::default()
        })
    }

    fn disk_read_at(&self, disk: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let missing = || Error::new(ErrorKind::NotFound, format!("disk {disk} does not exist"));
        if self.lock().trigger == Trigger::Unreadable {
            return Err(Error::new(
                ErrorKind::Local,
                "the disk cannot be read: the check wants it so",
            ));
        }
        let mut found = None;
        self.note("a read", |state| {
            found = usize::try_from(disk).ok().and_then(|id| state.disks.get(id)).cloned();
        });
        let read = found.ok_or_else(missing)?.read_at(offset, buffer)?;
        let mut state = self.lock();
        state.read_to = state.read_to.max(offset + read as u64);
        let stops = state.trigger == Trigger::FirstRead;
        if stops {
            state.stop();
            state.read_when_cancelled = state.read_to;
            self.changed.notify_all();
        }
        drop(state);
        if stops {
            self.pause(NEWS);
        }
        Ok(read)
    }
}
