//! The request log: one JSON line per request, for tests and measurements to read.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::state::StateError;

/// What is told about one request.
#[derive(Debug, Serialize)]
pub(crate) struct Entry<'a> {
    /// When its head had come, ISO 8601.
    pub(crate) time: String,
    /// Milliseconds from head to answer.
    pub(crate) milliseconds: u64,
    /// `oss`, `ecs`, `sts`, `ram`, `emulator`.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<&'a str>,
    pub(crate) request_id: &'a str,
}

/// Where the lines go.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<Mutex<File>>,
}

impl Log {
    /// Opens the file for appending; `None` logs nothing.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, StateError> {
        let Some(path) = path else { return Ok(Self { file: None }) };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(StateError::io("open", path))?;
        Ok(Self { file: Some(Mutex::new(file)) })
    }

    /// Writes a line. A full disk must not change what a client sees, so failure is not told.
    pub(crate) fn write(&self, entry: &Entry<'_>) {
        if let (Some(file), Ok(mut line)) = (&self.file, serde_json::to_vec(entry)) {
            line.push(b'\n');
            let _ = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
        }
    }
}
