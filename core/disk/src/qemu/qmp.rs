//! Talks QMP, the control protocol of qemu, over a Unix socket in a private directory.
//! Source: QEMU, "QEMU Machine Protocol Specification" (docs/interop/qmp-spec) and "QEMU QMP Reference
//! Manual".

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::machine::escaped;

/// Longest path of a Unix socket, in bytes: `sun_path` without its final zero (unix(7)).
const LONGEST_PATH: usize = 107;
/// Longest line of an answer that is accepted, in bytes; registers of 64 processors need 200 KiB.
const LONGEST_LINE: usize = 4 << 20;

/// The place of a socket through which one qemu is controlled. Dropping it removes the directory.
#[derive(Debug)]
pub(super) struct ControlSocket {
    directory: TempDir,
}

impl ControlSocket {
    /// Creates a directory that only this user can enter. `None` if no directory for temporary files can be
    /// written to, or if all their paths are too long for a socket.
    pub(super) fn create() -> Option<Self> {
        let candidates = [std::env::temp_dir(), PathBuf::from("/tmp")];
        candidates.iter().find_map(|parent| {
            let directory = tempfile::Builder::new()
                .prefix("build-image-qemu.")
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(parent)
                .ok()?;
            let socket = Self { directory };
            (socket.path().as_os_str().len() <= LONGEST_PATH).then_some(socket)
        })
    }

    /// Returns the path at which qemu listens.
    pub(super) fn path(&self) -> PathBuf {
        self.file("control")
    }

    /// Returns the path of another file in the directory; its name is not longer than that of the socket.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the arguments that make qemu listen.
    pub(super) fn arguments(&self) -> [OsString; 4] {
        listen(&self.path(), "control")
    }
}

/// Returns the arguments that make qemu listen at `path` for one connection at a time; `id` is unique in a qemu.
pub(super) fn listen(path: &Path, id: &str) -> [OsString; 4] {
    let mut socket = OsString::from(format!("socket,id={id},server=on,wait=off,path="));
    socket.push(escaped(path));
    ["-chardev".into(), socket, "-mon".into(), format!("chardev={id},mode=control").into()]
}

/// Removes a socket and its directory, which are not needed once a connection exists: a killed process then
/// leaves nothing behind.
pub(super) fn remove_socket(path: &Path) {
    // Best effort: the owner of the directory removes what remains.
    let _ = fs::remove_file(path);
    let _ = path.parent().map(fs::remove_dir);
}

/// Why a command has no result.
#[derive(Debug)]
pub(super) enum QmpError {
    /// qemu refused the command: it does not know it, or cannot execute it now.
    Refused(String),
    /// qemu did not answer in time; it may answer later.
    Late,
    /// The connection is unusable.
    Broken(io::Error),
}

impl std::fmt::Display for QmpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Late => f.write_str("no answer in time"),
            Self::Broken(error) => write!(f, "{error}"),
        }
    }
}

impl From<io::Error> for QmpError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Late,
            _ => Self::Broken(error),
        }
    }
}

/// A connection to a qemu.
#[derive(Debug)]
pub(super) struct Qmp {
    stream: UnixStream,
    received: Vec<u8>,
    /// Identifies the last command; answers to earlier ones, which came late, are skipped.
    last_id: u64,
    limit: Duration,
}

impl Qmp {
    /// Connects and leaves the mode of capability negotiation. `limit` is the longest wait for any answer.
    pub(super) fn connect(path: &Path, limit: Duration) -> Result<Self, QmpError> {
        let stream = UnixStream::connect(path)?;
        stream.set_write_timeout(Some(limit))?;
        let mut qmp = Self { stream, received: Vec::new(), last_id: 0, limit };
        let greeting = qmp.message(Instant::now() + limit)?;
        if greeting.get("QMP").is_none() {
            return Err(malformed("the greeting is not one of QMP"));
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Executes a command and returns what it returns.
    pub(super) fn execute(
        &mut self,
        command: &str,
        arguments: impl Into<Value>,
    ) -> Result<Value, QmpError> {
        self.last_id += 1;
        let request =
            json!({ "execute": command, "arguments": arguments.into(), "id": self.last_id });
        self.stream.write_all(format!("{request}\n").as_bytes())?;
        let deadline = Instant::now() + self.limit;
        loop {
            let mut message = self.message(deadline)?;
            // Events and late answers have no id or another one.
            if message["id"].as_u64() != Some(self.last_id) {
                continue;
            }
            if let Some(why) = message.get("error") {
                let why = why["desc"].as_str().unwrap_or("no reason was given");
                return Err(QmpError::Refused(why.to_owned()));
            }
            return Ok(message["return"].take());
        }
    }

    /// Executes a command of the human monitor and returns what it prints.
    pub(super) fn monitor(&mut self, line: &str, cpu: Option<u64>) -> Result<String, QmpError> {
        let mut arguments = json!({ "command-line": line });
        if let Some(cpu) = cpu {
            arguments["cpu-index"] = cpu.into();
        }
        let printed = self.execute("human-monitor-command", arguments)?;
        Ok(printed.as_str().unwrap_or_default().to_owned())
    }

    fn message(&mut self, deadline: Instant) -> Result<Value, QmpError> {
        let mut piece = [0; 16 << 10];
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map_err(|_| malformed("an answer is not JSON"));
            }
            if self.received.len() > LONGEST_LINE {
                return Err(malformed("an answer is too long"));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(QmpError::Late);
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(QmpError::Broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(len) => self.received.extend_from_slice(&piece[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn malformed(what: &str) -> QmpError {
    QmpError::Broken(io::Error::new(io::ErrorKind::InvalidData, what.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Answers each line of a client with the next of these texts, after a greeting.
    fn server(path: &Path, greeting: &'static str, answers: &'static [&'static str]) {
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            (&stream).write_all(greeting.as_bytes()).unwrap();
            for answer in answers {
                lines.next().unwrap().unwrap();
                (&stream).write_all(answer.as_bytes()).unwrap();
            }
            // Holds the connection until the client has closed it.
            lines.next();
        });
    }

    fn connect(
        greeting: &'static str,
        answers: &'static [&'static str],
        limit: Duration,
    ) -> Result<Qmp, QmpError> {
        let socket = ControlSocket::create().unwrap();
        server(&socket.path(), greeting, answers);
        let qmp = Qmp::connect(&socket.path(), limit);
        remove_socket(&socket.path());
        assert!(!socket.directory.path().exists());
        qmp
    }

    const HELLO: &str = "{\"QMP\": {\"version\": {}}}\r\n";
    const AGREED: &str = "{\"return\": {}, \"id\": 1}\n";

    #[test]
    fn events_and_late_answers_are_skipped_and_refusals_have_a_reason() {
        let answers: &[_] = &[
            AGREED,
            "{\"event\": \"STOP\", \"data\": {}}\n{\"return\": \"old\", \"id\": 1}\n\
             {\"return\": \"new\", \"id\": 2}\n",
            "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"unknown\"}, \"id\": 3}\n",
        ];
        let mut qmp = connect(HELLO, answers, 60 * SECOND).unwrap();
        assert_eq!(qmp.monitor("info registers", None).unwrap(), "new");
        let refused = qmp.execute("query-stats", json!({})).unwrap_err();
        assert!(matches!(&refused, QmpError::Refused(why) if why == "unknown"), "{refused}");
    }

    #[test]
    fn a_server_that_does_not_answer_or_is_not_qemu_is_reported_as_such() {
        let short = Duration::from_millis(50);
        let late = connect(HELLO, &[AGREED, ""], short);
        let late = late.unwrap().execute("query-status", json!({})).unwrap_err();
        assert!(matches!(late, QmpError::Late), "{late}");
        for greeting in ["SSH-2.0\n", "{\"hello\": 1}\n"] {
            let error = connect(greeting, &[], 60 * SECOND).unwrap_err();
            assert!(matches!(error, QmpError::Broken(_)), "{greeting}: {error}");
        }
    }

    #[test]
    fn the_directory_is_private_and_its_commas_are_escaped() {
        let socket = ControlSocket::create().unwrap();
        let mode = fs::metadata(socket.directory.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let parent = tempfile::tempdir().unwrap();
        let inside = tempfile::Builder::new().prefix("a,b").tempdir_in(parent.path()).unwrap();
        let arguments = ControlSocket { directory: inside }.arguments();
        assert!(arguments[1].to_str().unwrap().contains("/a,,b"), "{arguments:?}");
    }
}
