//! Implements the host for a library that runs in another process: every service is one request line and one
//! answer line, except frequent queries, which are answered locally.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write as _,
    os::unix::fs::FileExt as _,
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use build_image_plugin_api::{
    Disk, DiskSpec, Error, ErrorKind, Event, Host, LogRecord, Progress, Result, Secret,
};
use serde_json::{Value, json};

use super::{
    message::{self, from_json, to_json},
    slots::{SLOT, Slots},
};

/// Progress of one task is sent at most this often, and at its end.
const NEWS: Duration = Duration::from_millis(50);

/// The connection to the host.
pub(super) struct Link {
    output: Mutex<File>,
    next: AtomicU64,
    waiting: Mutex<Waiting>,
    stop: Mutex<bool>,
    stopped: Condvar,
    buffer: OnceLock<File>,
    slots: Slots,
    /// When the progress of a task was last sent.
    last_sent: Mutex<BTreeMap<u32, Instant>>,
}

#[derive(Default)]
struct Waiting {
    calls: BTreeMap<u64, SyncSender<Result<Value>>>,
    hung_up: bool,
}

impl Link {
    pub(super) fn new(output: File) -> Self {
        Self {
            output: Mutex::new(output),
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
            stop: Mutex::new(false),
            stopped: Condvar::new(),
            buffer: OnceLock::new(),
            slots: Slots::new(),
            last_sent: Mutex::default(),
        }
    }

    /// Opens the memory into which the host writes bytes of the disk.
    pub(super) fn open_buffer(&self, path: &str) -> Result<()> {
        let file = File::open(path).map_err(|error| {
            Error::new(ErrorKind::Local, format!("cannot open `{path}`")).caused_by(&error)
        })?;
        // A second greeting contains nothing new.
        let _ = self.buffer.set(file);
        Ok(())
    }

    /// Sends a line. A host that has ended does not read it; the reading thread notices the end.
    pub(super) fn send(&self, line: &str) {
        let _ = lock(&self.output).write_all(line.as_bytes());
    }

    /// Delivers the host's answer to a call.
    pub(super) fn answered(&self, id: u64, result: Result<Value>) {
        if let Some(caller) = lock(&self.waiting).calls.remove(&id) {
            let _ = caller.send(result);
        }
    }

    /// Sets whether the running step is to end.
    pub(super) fn set_stop(&self, stop: bool) {
        *lock(&self.stop) = stop;
        self.stopped.notify_all();
    }

    /// Records that the host has ended: calls are not answered any more.
    pub(super) fn hang_up(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.hung_up = true;
        // The callers wake up because their channels are closed.
        waiting.calls.clear();
        drop(waiting);
        self.set_stop(true);
    }

    fn call(&self, method: &str, params: &Value) -> Result<Value> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (caller, answer) = sync_channel(1);
        let mut waiting = lock(&self.waiting);
        if !waiting.hung_up {
            waiting.calls.insert(id, caller);
        }
        drop(waiting);
        self.send(&message::call(id, method, params));
        answer.recv().unwrap_or_else(|_| Err(Error::internal("the host is gone")))
    }

    /// Reads bytes of a disk, at most [`SLOT`].
    fn read_piece(&self, disk: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let shared = self.buffer.get();
        let shared = shared.ok_or_else(|| Error::internal("the host lent no memory"))?;
        self.slots.with(|place| {
            let request =
                json!({"disk": disk, "offset": offset, "length": buffer.len(), "into": place});
            let answer = self.call("disk_read_at", &request)?;
            let read = answer["length"].as_u64().and_then(|read| usize::try_from(read).ok());
            let read = read.filter(|&read| read <= buffer.len()).ok_or_else(|| {
                Error::internal("the host returned more bytes than were asked for")
            })?;
            shared.read_exact_at(&mut buffer[..read], place).map_err(|error| {
                Error::new(ErrorKind::Local, "cannot read what the host lent").caused_by(&error)
            })?;
            Ok(read)
        })
    }
}

impl Host for Link {
    fn log(&self, record: LogRecord) {
        self.send(&message::log(&record));
    }

    fn progress(&self, progress: Progress) {
        let Progress { task, done, total, .. } = progress;
        let mut last_sent = lock(&self.last_sent);
        let fresh = last_sent.get(&task).is_some_and(|sent| sent.elapsed() < NEWS);
        if fresh && (total == 0 || done < total) {
            return;
        }
        last_sent.insert(task, Instant::now());
        drop(last_sent);
        self.send(&message::progress(&progress));
    }

    fn is_cancelled(&self) -> bool {
        *lock(&self.stop)
    }

    fn wait(&self, duration: Duration) -> bool {
        let stop = self.stopped.wait_timeout_while(lock(&self.stop), duration, |stop| !*stop);
        *stop.unwrap_or_else(PoisonError::into_inner).0
    }

    fn event(&self, event: Event) -> Result<()> {
        self.call("event", &to_json(&event)?).map(|_| ())
    }

    fn secret(&self, key: &str) -> Result<Option<Secret>> {
        match self.call("secret", &json!({"key": key}))? {
            Value::String(text) => Ok(Some(Secret::new(text))),
            _ => Ok(None),
        }
    }

    fn checkpoint_save(&self, key: &str, document: &Value) -> Result<()> {
        self.call("checkpoint_save", &json!({"key": key, "document": document})).map(|_| ())
    }

    fn checkpoint_load(&self, key: &str) -> Result<Option<Value>> {
        let kept = self.call("checkpoint_load", &json!({"key": key}))?;
        Ok(Some(kept).filter(|kept| !kept.is_null()))
    }

    fn make_disk(&self, spec: &DiskSpec) -> Result<Disk> {
        from_json("the answer of make_disk is", self.call("make_disk", &to_json(spec)?)?)
    }

    fn disk_read_at(&self, disk: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        for piece in buffer.chunks_mut(usize::try_from(SLOT).unwrap_or(usize::MAX)) {
            let read = self.read_piece(disk, offset + done as u64, piece)?;
            done += read;
            if read < piece.len() {
                break;
            }
        }
        Ok(done)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
