//! Writes the request log: one JSON line per request, for tests and measurements, and keeps the last requests
//! for the web page.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

use crate::state::StateError;

/// The entry of one request.
#[derive(Debug, Serialize)]
pub(crate) struct Entry<'a> {
    /// Time at which its head was received, ISO 8601.
    pub(crate) time: String,
    /// Milliseconds from head to answer.
    pub(crate) milliseconds: u64,
    /// `oss`, `ecs`, `sts`, `ram`, `metadata`, `emulator`.
    pub(crate) service: &'a str,
    pub(crate) operation: &'a str,
    /// 0 when the connection was reset instead.
    pub(crate) status: u16,
    /// Error code, when the answer is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<&'a str>,
    /// Bytes of the request's body.
    pub(crate) bytes_in: u64,
    /// Bytes of the answer's body.
    pub(crate) bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) part_number: Option<u16>,
    /// Whether the call was to be checked only (`DryRun`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bucket: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<&'a str>,
    /// Names of the faults that struck the call.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) faults: &'a [&'static str],
    pub(crate) request_id: &'a str,
}

/// The destination of the lines.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<Mutex<File>>,
    recent: Mutex<VecDeque<Value>>,
}

/// Number of requests that are kept.
const RECENT: usize = 200;

impl Log {
    /// Opens the file for appending; `None` logs nothing.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, StateError> {
        let recent = Mutex::default();
        let Some(path) = path else { return Ok(Self { file: None, recent }) };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(StateError::io("open", path))?;
        Ok(Self { file: Some(Mutex::new(file)), recent })
    }

    /// Writes a line. A full disk must not change what a client sees, so failure is not reported.
    pub(crate) fn write(&self, entry: &Entry<'_>) {
        let Ok(value) = serde_json::to_value(entry) else { return };
        if let Some(file) = &self.file {
            let line = format!("{value}\n");
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = file.write_all(line.as_bytes());
        }
        // The repeated requests of the web page are not worth showing on it.
        if entry.service == "emulator" {
            return;
        }
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(value);
    }

    /// The last requests, latest first.
    pub(crate) fn recent(&self) -> Vec<Value> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().rev().cloned().collect()
    }
}
