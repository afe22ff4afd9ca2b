//! Encodes and parses the lines of the protocol: JSON-RPC 2.0 messages, in both directions.
//!
//! Source: JSON-RPC 2.0 Specification (2013-01-04); batches are not used.

use build_image_plugin_api::{
    Description, DiskSpec, Error, ErrorDocument, ErrorKind, Event, LogLevel, LogRecord, Progress,
    ProgressUnit, Result as StepResult,
    document::{CheckReport, Discarded, Inventory},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Longest line that is read, in bytes.
pub(super) const LINE_LIMIT: usize = 64 << 20;
/// JSON-RPC: method not found.
const NO_METHOD: i64 = -32601;
/// JSON-RPC: implementation-defined server error. `data.kind` holds the kind.
const SERVER_ERROR: i64 = -32000;

/// Returns a document as JSON.
///
/// # Errors
/// [`ErrorKind::Internal`] when it has no JSON form.
pub(in crate::plugins) fn to_json<T: Serialize>(document: &T) -> StepResult<Value> {
    serde_json::to_value(document)
        .map_err(|error| Error::internal("a document cannot be written as JSON").caused_by(&error))
}

/// Parses a document. `what` begins the error: "the request of upload is".
///
/// # Errors
/// [`ErrorKind::Internal`] when it is not such a document.
pub(in crate::plugins) fn from_json<T: DeserializeOwned>(
    what: &str,
    document: Value,
) -> StepResult<T> {
    serde_json::from_value(document)
        .map_err(|error| Error::internal(format!("{what} malformed")).caused_by(&error))
}

/// Parses a text as JSON. `what` begins the error.
///
/// # Errors
/// [`ErrorKind::Internal`] when it is not JSON.
pub(in crate::plugins) fn from_text(what: &str, text: &str) -> StepResult<Value> {
    serde_json::from_str(text)
        .map_err(|error| Error::internal(format!("{what} malformed")).caused_by(&error))
}

/// A line that was read.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    /// A request; the answer carries the same id.
    Call { id: Value, method: String, params: Value },
    /// A notification.
    Notice { method: String, params: Value },
    /// The answer to one of our requests.
    Answer { id: u64, result: Result<Value, Error> },
}

/// All members that a line may have.
#[derive(Deserialize)]
struct Line {
    id: Option<Value>,
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
    error: Option<WireError>,
}

/// An error object.
#[derive(Serialize, Deserialize)]
struct WireError {
    code: i64,
    message: String,
    /// What JSON-RPC's error object lacks.
    #[serde(default)]
    data: Option<ErrorDocument>,
}

/// Parses a line; the error describes what is wrong with it.
pub(super) fn parse(line: &[u8]) -> Result<Message, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    match (line.method, line.id) {
        (Some(method), Some(id)) => Ok(Message::Call { id, method, params: line.params }),
        (Some(method), None) => Ok(Message::Notice { method, params: line.params }),
        (None, Some(id)) => {
            let id = id.as_u64().ok_or("it answers with an id that was never given")?;
            let result = line.error.map_or(Ok(line.result), |error| Err(Error::from(error)));
            Ok(Message::Answer { id, result })
        }
        (None, None) => Err("it has neither `method` nor `id`".to_owned()),
    }
}

/// Parses a line that a program sent, and the documents that its params or its answer may be, for fuzzing. Returns
/// whether the line is a message.
#[must_use]
pub fn is_message(line: &[u8]) -> bool {
    let document = match parse(line) {
        Ok(Message::Call { params, .. } | Message::Notice { params, .. }) => params,
        Ok(Message::Answer { result: Ok(result), .. }) => result,
        Ok(Message::Answer { result: Err(error), .. }) => return !error.to_string().is_empty(),
        Err(what) => {
            assert!(!what.is_empty());
            return false;
        }
    };
    let _ = from_json::<Event>("an event", document.clone());
    let _ = from_json::<Description>("a description", document.clone());
    let _ = from_json::<CheckReport>("an answer to check", document.clone());
    let _ = from_json::<DiskSpec>("a disk", document.clone());
    let _ = from_json::<Discarded>("an answer to discard", document.clone());
    let _ = from_json::<Inventory>("an inventory", document);
    true
}

/// Formats the line of a call.
pub(in crate::plugins) fn call(id: u64, method: &str, params: &Value) -> String {
    line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
}

/// Formats the line of a notification.
pub(in crate::plugins) fn notice(method: &str, params: &Value) -> String {
    line(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
}

/// Formats the line that carries a log record.
pub(in crate::plugins) fn log(record: &LogRecord) -> String {
    let level = match record.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        _ => "trace",
    };
    let LogRecord { target, message, fields, .. } = record;
    let params = json!({"level": level, "target": target, "message": message, "fields": fields});
    notice("log", &params)
}

/// Formats the line that carries a progress report.
pub(in crate::plugins) fn progress(progress: &Progress) -> String {
    let Progress { task, unit, done, total, .. } = progress;
    let unit = match unit {
        ProgressUnit::Percent => "percent",
        ProgressUnit::Items => "items",
        _ => "bytes",
    };
    notice("progress", &json!({"task": task, "unit": unit, "done": done, "total": total}))
}

/// Formats the line of an answer.
pub(in crate::plugins) fn answer(id: &Value, result: Result<Value, Error>) -> String {
    match result {
        Ok(result) => line(&json!({"jsonrpc": "2.0", "id": id, "result": result})),
        Err(error) => line(&json!({"jsonrpc": "2.0", "id": id, "error": WireError::from(error)})),
    }
}

fn line(message: &Value) -> String {
    let mut text = message.to_string();
    text.push('\n');
    text
}

impl From<WireError> for Error {
    fn from(wire: WireError) -> Self {
        let mut data = wire.data.unwrap_or_default();
        let missing = wire.code == NO_METHOD && data.kind.is_empty();
        data.message = wire.message;
        let mut error = Self::from(data);
        if missing {
            error.kind = ErrorKind::Unsupported;
        }
        error
    }
}

impl From<Error> for WireError {
    fn from(error: Error) -> Self {
        let unknown = error.kind == ErrorKind::Unsupported;
        let mut data = ErrorDocument::from(&error);
        data.message.clear();
        Self {
            code: if unknown { NO_METHOD } else { SERVER_ERROR },
            message: error.message,
            data: Some(data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_notices_and_answers_are_distinguished() {
        let error = Error::new(ErrorKind::Quota, "too many")
            .with_context("request_id", "R-1")
            .with_hint("delete some")
            .caused_by(&std::io::Error::other("inner"))
            .exhausted(7, std::time::Duration::from_secs(95));
        let answered = |result| Message::Answer { id: 7, result };
        for (line, expected) in [
            (
                call(7, "upload", &json!({"a": 1})),
                Message::Call { id: json!(7), method: "upload".into(), params: json!({"a": 1}) },
            ),
            (
                notice("cancel", &Value::Null),
                Message::Notice { method: "cancel".into(), params: Value::Null },
            ),
            (answer(&json!(7), Ok(Value::Null)), answered(Ok(Value::Null))),
            (answer(&json!(7), Err(error.clone())), answered(Err(error))),
            (
                r#"{"id":7,"error":{"code":-32601,"message":"no such method"}}"#.to_owned(),
                answered(Err(Error::new(ErrorKind::Unsupported, "no such method"))),
            ),
            (
                r#"{"id":7,"error":{"code":1,"message":"boom"}}"#.to_owned(),
                answered(Err(Error::new(ErrorKind::Provider, "boom"))),
            ),
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn a_line_that_is_not_a_message_is_refused() {
        for line in ["hello", "[]", "{}", r#"{"id":"x","result":1}"#, r#"{"id":1,"error":"x"}"#] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
    }
}
