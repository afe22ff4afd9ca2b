//! Records the messages between host and provider, for authors of providers: one JSON object per line, in the order in
//! which this process writes and reads them. Calls of a library in this process are recorded as the messages that they
//! would be in the `exec` protocol.
//!
//! They go to standard error, or to a file that belongs to the user alone (mode 0600). The answers to `secret` are redacted, and so are their
//! values wherever else they appear; bytes of the disk are replaced with their length.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use build_image_plugin_api::{Error, ErrorKind, Result, Secret};
use serde_json::{Value, json};

use crate::{
    plugins::{find::has_more_rights_than_its_caller, redact::Redactor},
    report::print_line,
    settings::Environment,
};

/// The environment variable that names the file, or [`STANDARD_ERROR`].
pub(crate) const VARIABLE: &str = "BUILD_IMAGE_TRACE_PROTOCOL";
/// Stands for standard error where a file is named.
pub(crate) const STANDARD_ERROR: &str = "-";
/// Replaces a secret value.
const REDACTED: &str = "<protected>";
/// Longest piece of a line that is not a message, in characters.
const SHOWN: usize = 120;
/// Read and write for the owner.
const MODE: u32 = 0o600;

/// The record of one provider's messages.
pub(super) struct Trace {
    /// The file; `None` for standard error.
    path: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Processes and ids of their open `secret` calls.
    secret_calls: BTreeSet<(u32, String)>,
    secrets: BTreeMap<String, Option<Secret>>,
    redactor: Redactor,
}

/// The trace of one process.
#[derive(Clone)]
pub(super) struct Tracer {
    trace: Arc<Trace>,
    process: u32,
}

/// Direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    ToProvider,
    FromProvider,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::ToProvider => "to_provider",
            Self::FromProvider => "from_provider",
        }
    }
}

/// Creates the file, or empties it.
///
/// # Errors
/// When it cannot be written or is not a regular file.
pub(crate) fn begin(path: &Path) -> io::Result<()> {
    open(path)?.set_len(0)
}

/// Opens the file for appending; symbolic links are not followed, and opening a pipe does not block.
fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    file.set_permissions(Permissions::from_mode(MODE))?;
    Ok(file)
}

impl Trace {
    /// The trace that the environment requests. A program with more rights than its caller writes no trace: the
    /// caller would choose the file.
    pub(super) fn of(environment: &Environment) -> Option<Arc<Self>> {
        let path = environment.get(VARIABLE)?;
        let path = (path != STANDARD_ERROR).then(|| PathBuf::from(path));
        if has_more_rights_than_its_caller() {
            return None;
        }
        Some(Arc::new(Self { path, state: Mutex::default() }))
    }

    /// Starts recording a process.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn of_process(self: &Arc<Self>, process: u32) -> Result<Tracer> {
        // The file is not kept open: the conformance suite counts the open files of this process.
        self.path.as_deref().map(open).transpose().map_err(|error| {
            let path = self.path.as_deref().unwrap_or(Path::new(STANDARD_ERROR));
            let text = format!("cannot write the protocol trace `{}`", path.display());
            Error::new(ErrorKind::Local, text)
                .caused_by(&error)
                .with_hint(format!("set {VARIABLE} to a file this user may write, or unset it"))
        })?;
        Ok(Tracer { trace: Arc::clone(self), process })
    }
}

impl Tracer {
    /// Records a line of the protocol. A full disk does not end a build.
    pub(super) fn record(&self, direction: Direction, line: &[u8]) {
        let mut state = self.trace.state.lock().unwrap_or_else(PoisonError::into_inner);
        let message = state.redacted(self.process, direction, line);
        let entry = json!({
            "time": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
            "process": self.process,
            "direction": direction.name(),
            "message": message,
        });
        match &self.trace.path {
            None => print_line(&entry.to_string()),
            Some(path) => {
                // Written in one call, so that lines of several processes do not mix.
                let line = format!("{entry}\n");
                let _ = open(path).and_then(|mut file| file.write_all(line.as_bytes()));
            }
        }
    }
}

impl State {
    fn redacted(&mut self, process: u32, direction: Direction, line: &[u8]) -> Value {
        let Ok(mut message) = serde_json::from_slice::<Value>(line) else {
            let text: String =
                String::from_utf8_lossy(line).trim_end().chars().take(SHOWN).collect();
            return Value::String(self.redactor.text(&text));
        };
        let id = message.get("id").map(Value::to_string).unwrap_or_default();
        let call = (process, id);
        if direction == Direction::FromProvider && message["method"] == "secret" {
            self.secret_calls.insert(call);
        } else if direction == Direction::ToProvider
            && message.get("method").is_none()
            && self.secret_calls.remove(&call)
            && let Some(result) = message.get_mut("result").filter(|result| !result.is_null())
        {
            if let Value::String(value) = result {
                let number = self.secrets.len().to_string();
                self.secrets.insert(number, Some(Secret::new(std::mem::take(value))));
                self.redactor = Redactor::of(&self.secrets);
            }
            *result = REDACTED.into();
        }
        if let Some(Value::String(data)) = message.pointer_mut("/result/data") {
            *data = format!("{} characters of base64", data.len());
        }
        self.redactor.value(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn secrets_and_bytes_of_the_disk_are_not_recorded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace");
        std::fs::write(&path, "older").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        begin(&path).unwrap();
        let environment = Environment::of([(VARIABLE, path.to_str().unwrap())]);
        let trace = Trace::of(&environment).unwrap();
        let (one, two) = (trace.of_process(1).unwrap(), trace.of_process(2).unwrap());
        one.record(Direction::FromProvider, br#"{"id":7,"method":"secret","params":{"key":"K"}}"#);
        // The same id of another process, and of another call, is not the answer.
        two.record(Direction::ToProvider, br#"{"id":7,"result":"kept one"}"#);
        one.record(Direction::ToProvider, br#"{"id":7,"method":"upload","params":{}}"#);
        one.record(Direction::ToProvider, br#"{"id":7,"result":"hunter22"}"#);
        two.record(
            Direction::FromProvider,
            br#"{"method":"log","params":{"message":"a hunter22"}}"#,
        );
        one.record(Direction::FromProvider, b"hunter22 printed\n");
        one.record(Direction::ToProvider, br#"{"id":8,"result":{"length":3,"data":"QUJD"}}"#);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("hunter22") && !text.contains("older"), "{text}");
        let seen = lines(&path);
        assert_eq!(seen[0]["direction"], "from_provider");
        assert_eq!(
            (&seen[1]["message"]["result"], &seen[1]["process"]),
            (&json!("kept one"), &json!(2))
        );
        assert_eq!(seen[3]["message"]["result"], REDACTED);
        assert_eq!(seen[4]["message"]["params"]["message"], "a <protected>");
        assert_eq!(seen[5]["message"], "<protected> printed");
        assert_eq!(seen[6]["message"]["result"]["data"], "4 characters of base64");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
    }

    #[test]
    fn links_and_pipes_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        std::fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(begin(&link).is_err());
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "kept");
        assert!(begin(directory.path()).is_err());
    }
}
