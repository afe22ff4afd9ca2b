//! Serves the requests of a provider's process: they become calls of [`Host`], and the results become answers.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use build_image_plugin_api::{
    DiskSpec, Error, Event, Host, LogLevel, LogRecord, Progress, ProgressUnit, Result,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    buffer::{Buffer, SIZE},
    message::{self, from_json, to_json},
    outbox::Outbox,
    workers::Workers,
};

/// Maximum size of one answer with bytes of a disk as text, in bytes.
const INLINE_LIMIT: u64 = 16 << 20;
/// While waiting, the interval at which the provider is checked to be alive.
const LOOK: Duration = Duration::from_millis(200);

/// The host, as one provider's process reaches it.
pub(super) struct Service {
    core: Arc<Core>,
    workers: Mutex<Workers>,
}

struct Core {
    host: Arc<dyn Host>,
    buffer: Buffer,
    outbox: Outbox,
    /// Set when the process has ended, so that no answer is expected.
    over: Arc<AtomicBool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LogLine {
    level: String,
    target: String,
    message: String,
    fields: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ProgressNews {
    task: u32,
    unit: String,
    done: u64,
    total: u64,
}

#[derive(Deserialize)]
struct Key {
    key: String,
}

#[derive(Deserialize)]
struct Checkpoint {
    key: String,
    document: Value,
}

#[derive(Deserialize)]
struct Wait {
    milliseconds: u64,
}

#[derive(Deserialize)]
struct Read {
    disk: u64,
    offset: u64,
    length: u64,
    into: Option<u64>,
}

impl Service {
    pub(super) fn new(host: Arc<dyn Host>, outbox: Outbox, over: Arc<AtomicBool>) -> Result<Self> {
        let core = Core { host, buffer: Buffer::new()?, outbox, over };
        Ok(Self { core: Arc::new(core), workers: Mutex::new(Workers::new()) })
    }

    /// The path of the shared memory.
    pub(super) fn buffer(&self) -> String {
        self.core.buffer.path()
    }

    /// Handles a notification. Unknown ones are ignored, as everywhere.
    pub(super) fn notice(&self, method: &str, params: Value) {
        match method {
            "log" => self.core.log(params),
            "progress" => self.core.progress(params),
            _ => tracing::debug!(method, "the provider told something nobody knows"),
        }
    }

    /// Handles a call; its answer is sent when it is available.
    pub(super) fn call(&self, id: Value, method: String, params: Value) {
        let core = Arc::clone(&self.core);
        if method == "is_cancelled" {
            core.answer(&id, Ok(core.host.is_cancelled().into()));
            return;
        }
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).run(move |scratch| {
            let work = AssertUnwindSafe(|| core.serve(&method, params, scratch));
            let result = catch_unwind(work)
                .unwrap_or_else(|_| Err(Error::internal(format!("the host panicked in {method}"))));
            core.answer(&id, result);
        });
    }
}

impl Core {
    fn answer(&self, id: &Value, result: Result<Value>) {
        self.outbox.send(message::answer(id, result));
    }

    fn serve(&self, method: &str, params: Value, scratch: &mut Vec<u8>) -> Result<Value> {
        match method {
            "wait" => Ok(self.wait(parse::<Wait>(method, params)?.milliseconds).into()),
            "event" => self.host.event(parse::<Event>(method, params)?).map(|()| Value::Null),
            "secret" => {
                let value = self.host.secret(&parse::<Key>(method, params)?.key)?;
                Ok(value.map_or(Value::Null, |secret| secret.reveal().into()))
            }
            "checkpoint_save" => {
                let checkpoint: Checkpoint = parse(method, params)?;
                self.host
                    .checkpoint_save(&checkpoint.key, &checkpoint.document)
                    .map(|()| Value::Null)
            }
            "checkpoint_load" => {
                let kept = self.host.checkpoint_load(&parse::<Key>(method, params)?.key)?;
                Ok(kept.unwrap_or(Value::Null))
            }
            "make_disk" => {
                let disk = self.host.make_disk(&parse::<DiskSpec>(method, params)?)?;
                to_json(&disk)
            }
            "disk_read_at" => self.read(&parse(method, params)?, scratch),
            _ => Err(Error::unsupported(
                format!("this build-image has no `{method}`"),
                "see the list of calls in docs/plugins.md",
            )),
        }
    }

    /// Waits in pieces, so that the wait ends when the provider has died.
    fn wait(&self, milliseconds: u64) -> bool {
        let begun = Instant::now();
        let whole = Duration::from_millis(milliseconds);
        loop {
            let left = whole.saturating_sub(begun.elapsed());
            if self.host.wait(left.min(LOOK)) {
                return true;
            }
            if left <= LOOK || self.over.load(Ordering::Relaxed) {
                return false;
            }
        }
    }

    fn read(&self, request: &Read, scratch: &mut Vec<u8>) -> Result<Value> {
        let limit = request.into.map_or(INLINE_LIMIT, |into| SIZE.saturating_sub(into));
        let length = usize::try_from(request.length).ok().filter(|_| request.length <= limit);
        let length = length.ok_or_else(|| {
            Error::config(format!("{} bytes of the disk were asked for at once", request.length))
                .with_hint(format!("ask for {limit} bytes at most"))
        })?;
        if scratch.len() < length {
            scratch.resize(length, 0);
        }
        let read = self.host.disk_read_at(request.disk, request.offset, &mut scratch[..length])?;
        match request.into {
            Some(into) => {
                self.buffer.put(into, &scratch[..read])?;
                Ok(json!({"length": read}))
            }
            None => Ok(json!({"length": read, "data": STANDARD.encode(&scratch[..read])})),
        }
    }

    fn log(&self, params: Value) {
        let Ok(line) = parse::<LogLine>("log", params) else { return };
        let level = match line.level.as_str() {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => LogLevel::Info,
        };
        let LogLine { target, message, fields, .. } = line;
        self.host.log(LogRecord::new(level, target, message).fields(fields));
    }

    fn progress(&self, params: Value) {
        let Ok(news) = parse::<ProgressNews>("progress", params) else { return };
        let unit = match news.unit.as_str() {
            "percent" => ProgressUnit::Percent,
            "items" => ProgressUnit::Items,
            _ => ProgressUnit::Bytes,
        };
        let ProgressNews { task, done, total, .. } = news;
        self.host.progress(Progress::new(done, total).task(task).unit(unit));
    }
}

fn parse<T: DeserializeOwned>(method: &str, params: Value) -> Result<T> {
    from_json(&format!("the parameters of {method} are"), params)
}
