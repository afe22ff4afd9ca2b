//! Records the calls between this process and a library in it, as the messages that they would be in the `exec`
//! protocol.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use build_image_plugin_api::{
    Disk, DiskSpec, Error, Event, Host, LogRecord, Progress, Result, Secret, Step, Steps,
    WrittenDisk, conformance::RawSteps,
};
use serde_json::{Value, json};

use super::{
    remote::message::{self, to_json},
    trace::{Direction, Trace, Tracer},
};

/// Numbers of the calls of this process, in both directions: instances do not share one.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Records the calls of one instance.
#[derive(Clone)]
pub(super) struct Recorder(Tracer);

impl Recorder {
    /// Starts recording.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn new(trace: &Arc<Trace>) -> Result<Self> {
        trace.of_process(std::process::id()).map(Self)
    }

    /// Returns the host for the instance.
    pub(super) fn host(&self, host: Arc<dyn Host>) -> Arc<dyn Host> {
        Arc::new(TracedHost { host, recorder: self.clone(), cancelled: AtomicBool::new(false) })
    }

    /// Records the creation of an instance; `settings` is the document as text.
    pub(super) fn create<T>(
        &self,
        settings: &str,
        create: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let id =
            self.call(Direction::ToProvider, "create", &format!("{{\"settings\":{settings}}}"));
        let made = create();
        let answer = made.as_ref().map(|_| Value::Null).map_err(Clone::clone);
        self.answer(Direction::FromProvider, id, answer);
        made
    }

    /// Returns steps that are recorded.
    pub(super) fn steps(self, steps: Box<dyn Steps>) -> Box<dyn Steps> {
        Box::new(TracedSteps { steps, recorder: self })
    }

    /// Returns steps of documents of any shape that are recorded.
    pub(super) fn raw_steps(self, steps: Box<dyn RawSteps>) -> Box<dyn RawSteps> {
        Box::new(TracedRawSteps { steps, recorder: self })
    }

    /// Records a call, whose parameters may be a malformed text. Returns its number.
    fn call(&self, direction: Direction, method: &str, params: &str) -> u64 {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let params = serde_json::from_str(params).unwrap_or_else(|_| params.into());
        self.0.record(direction, message::call(id, method, &params).as_bytes());
        id
    }

    fn answer(&self, direction: Direction, id: u64, answer: Result<Value>) {
        self.0.record(direction, message::answer(&id.into(), answer).as_bytes());
    }

    /// Records a call to the host and its answer.
    fn serve<T>(
        &self,
        method: &str,
        params: &Value,
        serve: impl FnOnce() -> Result<T>,
        shown: impl FnOnce(&T) -> Value,
    ) -> Result<T> {
        let id = self.call(Direction::FromProvider, method, &params.to_string());
        let answer = serve();
        let shown = answer.as_ref().map(shown).map_err(Clone::clone);
        self.answer(Direction::ToProvider, id, shown);
        answer
    }

    fn notice(&self, direction: Direction, line: &str) {
        self.0.record(direction, line.as_bytes());
    }
}

struct TracedSteps {
    steps: Box<dyn Steps>,
    recorder: Recorder,
}

impl Steps for TracedSteps {
    fn call(&self, step: Step, request: &str) -> Result<String> {
        let id = self.recorder.call(Direction::ToProvider, step.name(), request);
        let answer = self.steps.call(step, request);
        let shown = answer.as_ref().map(|text| as_json(text)).map_err(Clone::clone);
        self.recorder.answer(Direction::FromProvider, id, shown);
        answer
    }
}

struct TracedRawSteps {
    steps: Box<dyn RawSteps>,
    recorder: Recorder,
}

impl RawSteps for TracedRawSteps {
    fn call(&self, step: &str, request: &str) -> Result<String, (String, Error)> {
        let id = self.recorder.call(Direction::ToProvider, step, request);
        let answer = self.steps.call(step, request);
        let shown = answer.as_ref().map(|text| as_json(text)).map_err(|(_, error)| error.clone());
        self.recorder.answer(Direction::FromProvider, id, shown);
        answer
    }
}

/// Returns the document of a text; a malformed one stays a text.
fn as_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

struct TracedHost {
    host: Arc<dyn Host>,
    recorder: Recorder,
    /// Whether the provider knows that it must stop.
    cancelled: AtomicBool,
}

impl TracedHost {
    /// Records once that the provider was asked to stop.
    fn noted(&self, cancelled: bool) -> bool {
        if cancelled && !self.cancelled.swap(true, Ordering::Relaxed) {
            self.recorder.notice(Direction::ToProvider, &message::notice("cancel", &Value::Null));
        }
        cancelled
    }
}

impl Host for TracedHost {
    fn log(&self, record: LogRecord) {
        if !record.may_contain_requests() {
            self.recorder.notice(Direction::FromProvider, &message::log(&record));
        }
        self.host.log(record);
    }

    fn progress(&self, progress: Progress) {
        self.recorder.notice(Direction::FromProvider, &message::progress(&progress));
        self.host.progress(progress);
    }

    fn is_cancelled(&self) -> bool {
        self.noted(self.host.is_cancelled())
    }

    fn wait(&self, duration: Duration) -> bool {
        self.noted(self.host.wait(duration))
    }

    fn event(&self, event: Event) -> Result<()> {
        let params = to_json(&event)?;
        self.recorder.serve("event", &params, || self.host.event(event), |()| Value::Null)
    }

    fn secret(&self, key: &str) -> Result<Option<Secret>> {
        let shown = |secret: &Option<Secret>| {
            secret.as_ref().map_or(Value::Null, |secret| secret.reveal().into())
        };
        self.recorder.serve("secret", &json!({"key": key}), || self.host.secret(key), shown)
    }

    fn checkpoint_save(&self, key: &str, document: &Value) -> Result<()> {
        let params = json!({"key": key, "document": document});
        let save = || self.host.checkpoint_save(key, document);
        self.recorder.serve("checkpoint_save", &params, save, |()| Value::Null)
    }

    fn checkpoint_load(&self, key: &str) -> Result<Option<Value>> {
        let load = || self.host.checkpoint_load(key);
        let shown = |kept: &Option<Value>| kept.clone().unwrap_or(Value::Null);
        self.recorder.serve("checkpoint_load", &json!({"key": key}), load, shown)
    }

    fn make_disk(&self, spec: &DiskSpec) -> Result<Disk> {
        let shown = |disk: &Disk| to_json(disk).unwrap_or_default();
        self.recorder.serve("make_disk", &to_json(spec)?, || self.host.make_disk(spec), shown)
    }

    fn disk_read_at(&self, disk: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let params = json!({"disk": disk, "offset": offset, "length": buffer.len()});
        let read = || self.host.disk_read_at(disk, offset, buffer);
        self.recorder.serve("disk_read_at", &params, read, |count| json!({"length": count}))
    }

    fn disk_write(&self, disk: u64, path: &Path) -> Result<WrittenDisk> {
        let write = || self.host.disk_write(disk, path);
        let shown = |written: &WrittenDisk| to_json(written).unwrap_or_default();
        self.recorder.serve("disk_write", &json!({"disk": disk, "path": path}), write, shown)
    }
}
