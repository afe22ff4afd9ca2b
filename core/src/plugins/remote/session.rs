//! Manages one process of a provider: its streams, one call at a time, and its end.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read as _},
    process::{ChildStderr, ChildStdout},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use build_image_disk::partner::{Partner, Streams};
use build_image_plugin_api::{Error, ErrorKind, Event, Host, LogLevel, LogRecord, Result};
use serde_json::{Value, json};

use super::{
    PROTOCOLS,
    buffer::SIZE,
    launch::Launch,
    message::{self, LINE_LIMIT, Message},
    outbox::{self, Outbox},
    service::Service,
    status,
};
use crate::plugins::trace::{Direction, Tracer};

/// Interval at which a waiting call checks for cancellation.
const LOOK: Duration = Duration::from_millis(50);
/// Time for a provider to end its step after it was asked to stop. The contract states two seconds.
const GRACE: Duration = Duration::from_secs(5);
/// Time for a call to wait for room in the queue of a process that does not read.
const TAKEN_LIMIT: Duration = Duration::from_secs(60);
/// Time for a process to end after its input has ended, or to be reaped after it has died.
const END_LIMIT: Duration = Duration::from_secs(2);
/// Number of last lines of standard error that are shown when a process dies.
const TAIL: usize = 5;
/// Longest piece of a line that is shown, in characters.
const SHOWN: usize = 120;

/// A provider's process.
pub(super) struct Session {
    partner: Partner,
    outbox: Outbox,
    inbox: Receiver<Incoming>,
    tail: Arc<Mutex<VecDeque<String>>>,
    /// Closed when its standard error has ended.
    complaints: Receiver<()>,
    over: Arc<AtomicBool>,
    /// Why it cannot be called any more, once that is known.
    verdict: Option<Error>,
    next: u64,
}

/// What the reading thread delivers.
enum Incoming {
    Answer(u64, Result<Value>),
    /// A line that is not a message, and what is wrong with it.
    Garbage(String, String),
    End,
}

impl Session {
    /// Starts a process and negotiates a protocol version with it.
    pub(super) fn start(
        launch: &Launch,
        host: &Arc<dyn Host>,
        limit: Option<Duration>,
    ) -> Result<Self> {
        let (partner, streams) = launch.call().partner().map_err(|error| cannot_start(&error))?;
        let Streams { stdin, stdout, stderr } = streams;
        let tracer = launch.trace().map(|trace| trace.of_process(partner.id())).transpose()?;
        let (outbox, lines) = Outbox::new();
        let (sender, inbox) = channel();
        let over = Arc::new(AtomicBool::new(false));
        let service = Service::new(Arc::clone(host), outbox.clone(), Arc::clone(&over))?;
        let buffer = service.buffer();
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let (kept, reader_over) = (Arc::clone(&tail), Arc::clone(&over));
        let log = Arc::clone(host);
        let (complaining, complaints) = channel();
        let writing = tracer.clone();
        spawn("provider-in", move || outbox::write(stdin, &lines, writing.as_ref()))?;
        spawn("provider-err", move || {
            complain(stderr, log.as_ref(), &kept);
            drop::<Sender<()>>(complaining);
        })?;
        spawn("provider-out", move || {
            listen(stdout, &service, &sender, &reader_over, tracer.as_ref());
        })?;
        let (verdict, next) = (None, 1);
        let mut session = Self { partner, outbox, inbox, tail, complaints, over, verdict, next };
        session.agree(&buffer, host.as_ref(), limit)?;
        Ok(session)
    }

    /// Returns whether the process cannot be called any more.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn agree(&mut self, buffer: &str, host: &dyn Host, limit: Option<Duration>) -> Result<()> {
        let params = json!({
            "protocols": PROTOCOLS,
            "host": {"name": "build-image", "version": env!("CARGO_PKG_VERSION")},
            "buffer": {"path": buffer, "bytes": SIZE},
        });
        let answer = self.call("initialize", &params, limit, host)?;
        let chosen = answer["protocol"].as_str().unwrap_or_default();
        if PROTOCOLS.contains(&chosen) {
            return Ok(());
        }
        let spoken = PROTOCOLS.join(", ");
        Err(self.abandon(Error::unsupported(
            format!("it speaks version `{chosen}` of the protocol, this build-image {spoken}"),
            "get a release of the provider that fits, or another build-image",
        )))
    }

    /// Sends a call and waits for the answer: at most for `limit`, or for [`GRACE`] once the user has cancelled.
    pub(super) fn call(
        &mut self,
        method: &str,
        params: &Value,
        limit: Option<Duration>,
        host: &dyn Host,
    ) -> Result<Value> {
        if let Some(verdict) = &self.verdict {
            return Err(verdict.clone());
        }
        let id = self.next;
        self.next += 1;
        // Answers that the process does not read may fill its queue: the call waits for room.
        let mut unsent = self.outbox.offer(message::call(id, method, params));
        let taken_by = Instant::now() + TAKEN_LIMIT;
        let mut deadline = limit.map(|limit| Instant::now() + limit);
        let mut cancelled = false;
        loop {
            // Also before the first answer: a step that begins after the signal must be cancelled too.
            if !cancelled && host.is_cancelled() {
                cancelled = true;
                self.outbox.try_send(message::notice("cancel", &Value::Null));
                deadline = Some(Instant::now() + GRACE);
            }
            if let Some(line) = unsent.take() {
                unsent = self.outbox.offer(line);
                if unsent.is_some() && Instant::now() >= taken_by {
                    let what = format!("it does not read the call `{method}`");
                    let error = Error::new(ErrorKind::Internal, what);
                    return Err(self.abandon(error.with_hint("report it to the provider's author")));
                }
            }
            match self.inbox.recv_timeout(LOOK) {
                Ok(Incoming::Answer(answered, result)) if answered == id => return result,
                Ok(Incoming::Answer(answered, _)) => {
                    let line = format!("an answer to call {answered}");
                    return Err(self.abandon(garbage(&line, "nobody asked")));
                }
                Ok(Incoming::Garbage(line, why)) => return Err(self.abandon(garbage(&line, &why))),
                Ok(Incoming::End) | Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(self.abandon(late(method, cancelled, host)));
            }
        }
    }

    /// Kills a process that cannot be communicated with any more. Returns the reason.
    fn abandon(&mut self, why: Error) -> Error {
        self.over.store(true, Ordering::Relaxed);
        self.outbox.close();
        self.partner.kill();
        let _ = self.partner.wait(END_LIMIT);
        self.verdict = Some(why.clone());
        why
    }

    /// Returns why the process no longer answers.
    fn ended(&mut self) -> Error {
        self.outbox.close();
        let status = self.partner.wait(END_LIMIT).ok().flatten();
        let mut error = status::ended(status);
        // Its last output may not have arrived yet.
        let _ = self.complaints.recv_timeout(END_LIMIT);
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        error.causes.extend(tail.iter().map(|line| format!("standard error: {line}")));
        drop(tail);
        self.abandon(error)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The process ends when its input ends.
        self.outbox.close();
        if !self.is_over() && matches!(self.partner.wait(END_LIMIT), Ok(None)) {
            tracing::warn!("the provider's process did not end with its input and was killed");
        }
        self.over.store(true, Ordering::Relaxed);
        self.partner.kill();
    }
}

fn cannot_start(error: &build_image_disk::Error) -> Error {
    let mut made = Error::new(ErrorKind::Local, "its process cannot be started").caused_by(error);
    made.hint = error.hint().map(str::to_owned);
    made
}

fn garbage(line: &str, why: &str) -> Error {
    Error::internal(format!("it wrote a line that is no message of the protocol: `{line}`"))
        .with_context("why", why)
        .with_hint("a provider prints to standard error; standard output is for messages only")
}

fn late(method: &str, cancelled: bool, host: &dyn Host) -> Error {
    if cancelled {
        let text = format!("the provider did not stop within {} s and was killed", GRACE.as_secs());
        let hint = Some("this is a bug of the provider".to_owned());
        let _ = host.event(Event::Warning { text, hint });
        return Error::cancelled();
    }
    Error::new(ErrorKind::Timeout, format!("it did not answer `{method}` in time and was killed"))
        .with_hint("this is a bug of the provider; report it to its author")
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map(|_| ()).map_err(|error| {
        Error::new(ErrorKind::Local, "cannot start a thread for the provider").caused_by(&error)
    })
}

/// Writes standard error to the log.
fn complain(stderr: ChildStderr, host: &dyn Host, tail: &Mutex<VecDeque<String>>) {
    let mut stream = BufReader::new(stderr);
    while let Ok(Some(line)) = next_line(&mut stream, 64 << 10) {
        let message = String::from_utf8_lossy(&line).trim_end().to_owned();
        if message.is_empty() {
            continue;
        }
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(message.chars().take(SHOWN).collect());
        drop(tail);
        host.log(LogRecord::new(LogLevel::Warn, "stderr", message));
    }
}

/// Reads messages until the end: answers are delivered, everything else is served.
fn listen(
    stdout: ChildStdout,
    service: &Service,
    sender: &Sender<Incoming>,
    over: &AtomicBool,
    tracer: Option<&Tracer>,
) {
    let mut stream = BufReader::with_capacity(64 << 10, stdout);
    while let Ok(Some(line)) = next_line(&mut stream, LINE_LIMIT) {
        if let Some(tracer) = tracer {
            tracer.record(Direction::FromProvider, &line);
        }
        match message::parse(&line) {
            Ok(Message::Answer { id, result }) => {
                let _ = sender.send(Incoming::Answer(id, result));
            }
            Ok(Message::Notice { method, params }) => service.notice(&method, params),
            Ok(Message::Call { id, method, params }) => service.call(id, method, params),
            Err(why) => {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end().chars().take(SHOWN).collect();
                let _ = sender.send(Incoming::Garbage(text, why));
                break;
            }
        }
    }
    over.store(true, Ordering::Relaxed);
    let _ = sender.send(Incoming::End);
}

/// Returns the next line, truncated after `limit` bytes; `None` at the end.
pub(super) fn next_line(
    stream: &mut impl BufRead,
    limit: usize,
) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    stream.take(limit as u64).read_until(b'\n', &mut line)?;
    Ok(Some(line).filter(|line| !line.is_empty()))
}
