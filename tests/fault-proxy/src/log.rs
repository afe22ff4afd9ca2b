//! Writes the request log: one entry per request, written when the request is over. The last entries are kept in
//! memory; a log file, if named, receives all of them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use crate::rules::Request;

/// Maximum number of entries kept in memory.
const KEPT: usize = 10_000;
/// Maximum length of a path and of a list of parameter names in an entry.
const LONGEST: usize = 1024;

/// One request that is over.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Its number in the order of arrival, from 1.
    pub number: u64,
    /// When it arrived, RFC 3339.
    pub time: String,
    /// Its method.
    pub method: String,
    /// Its path, at most 1,024 bytes.
    pub path: String,
    /// Names of the query's parameters. Their values may be signatures, and are not logged.
    pub query: Vec<String>,
    /// The status sent to the client; `None` when it got no answer.
    pub status: Option<u16>,
    /// Bytes of the request's body that passed to the server.
    pub request_bytes: u64,
    /// Bytes of the answer's body that passed to the client.
    pub answer_bytes: u64,
    /// The faults that were applied, in order.
    pub faults: Vec<&'static str>,
    /// The rules that struck it, from 1. Such a rule's fault was not applied if the body was too short.
    pub rules: Vec<usize>,
    /// Errors that are not injected faults, such as an unreachable server.
    pub error: Option<String>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Entry>,
    /// All entries that were written, including those no longer kept.
    written: u64,
    file: Option<File>,
}

/// The log of one proxy.
#[derive(Debug, Default)]
pub(crate) struct Log {
    arrived: AtomicU64,
    kept: Mutex<Kept>,
    more: Condvar,
}

impl Log {
    pub(crate) fn new(file: Option<File>) -> Self {
        Self { kept: Mutex::new(Kept { file, ..Kept::default() }), ..Self::default() }
    }

    /// Begins an entry; it is written when the last user of the record drops it.
    pub(crate) fn begin(self: &Arc<Self>, request: &Request<'_>, rules: Vec<usize>) -> Arc<Record> {
        let names = request.query.split('&').filter_map(|pair| pair.split('=').next());
        let mut left = LONGEST;
        let names = names.filter(|name| !name.is_empty()).take_while(|name| {
            left = left.saturating_sub(name.len() + 1);
            left > 0
        });
        let mut end = request.path.len().min(LONGEST);
        while !request.path.is_char_boundary(end) {
            end -= 1;
        }
        let entry = Entry {
            number: self.arrived.fetch_add(1, Ordering::Relaxed) + 1,
            time: Timestamp::now().to_string(),
            method: request.method.to_owned(),
            path: request.path[..end].to_owned(),
            query: names.map(str::to_owned).collect(),
            status: None,
            request_bytes: 0,
            answer_bytes: 0,
            faults: Vec::new(),
            rules,
            error: None,
        };
        Arc::new(Record { entry: Mutex::new(entry), log: Arc::clone(self) })
    }

    fn write(&self, entry: Entry) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(file), Ok(mut line)) = (&mut kept.file, serde_json::to_vec(&entry)) {
            line.push(b'\n');
            // A full disk must not change the behaviour of the proxy.
            let _ = file.write_all(&line);
        }
        kept.written += 1;
        kept.entries.push_back(entry);
        if kept.entries.len() > KEPT {
            kept.entries.pop_front();
        }
        self.more.notify_all();
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.entries.iter().cloned().collect()
    }

    /// Waits until this many requests are over; returns whether they are.
    pub(crate) fn wait(&self, count: u64, most: Duration) -> bool {
        let until = Instant::now() + most;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.saturating_duration_since(Instant::now());
        let waited = self.more.wait_timeout_while(kept, left, |kept| kept.written < count);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// The entry of a request that is not over.
#[derive(Debug)]
pub(crate) struct Record {
    entry: Mutex<Entry>,
    log: Arc<Log>,
}

impl Record {
    /// Changes the entry.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Entry)) {
        change(&mut self.entry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Records a fault that was applied.
    pub(crate) fn applied(&self, fault: &'static str) {
        self.note(|entry| entry.faults.push(fault));
    }

    /// Whether a fault was applied.
    pub(crate) fn has(&self, fault: &str) -> bool {
        let entry = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
        entry.faults.contains(&fault)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let entry = self.entry.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.log.write(entry.clone());
    }
}
