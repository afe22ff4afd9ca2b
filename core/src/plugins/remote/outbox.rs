//! Lines for a process, written by a thread of their own: a process that reads nothing blocks nobody
//! who must not be blocked.

use std::{
    io::Write as _,
    process::ChildStdin,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use super::trace::{Direction, Tracer};

/// Lines that may wait.
const LINES: usize = 1024;

/// The way to a process's standard input, shared by all who write to it.
#[derive(Clone)]
pub(super) struct Outbox(Arc<Mutex<Option<SyncSender<String>>>>);

impl Outbox {
    /// An outbox, and the lines that were put into it.
    pub(super) fn new() -> (Self, Receiver<String>) {
        let (sender, lines) = sync_channel(LINES);
        (Self(Arc::new(Mutex::new(Some(sender)))), lines)
    }

    /// Puts a line in; waits while it is full.
    pub(super) fn send(&self, line: String) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sender) = sender {
            // Not sent only when the process is gone.
            let _ = sender.send(line);
        }
    }

    /// Puts a line in, unless it is full or closed. Returns whether it was taken.
    pub(super) fn try_send(&self, line: String) -> bool {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().is_some_and(|sender| sender.try_send(line).is_ok())
    }

    /// Puts a line in, unless it is full: then the line comes back. When it is closed, nobody reads any more.
    pub(super) fn offer(&self, line: String) -> Option<String> {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match sender.as_ref()?.try_send(line) {
            Err(TrySendError::Full(line)) => Some(line),
            Ok(()) | Err(TrySendError::Disconnected(_)) => None,
        }
    }

    /// Takes no more lines: the process's input ends after those that are in.
    pub(super) fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Writes lines until there are no more; then the process's input ends.
pub(super) fn write(mut stdin: ChildStdin, lines: &Receiver<String>, tracer: Option<&Tracer>) {
    while let Ok(line) = lines.recv() {
        if let Some(tracer) = tracer {
            tracer.record(Direction::ToProvider, line.as_bytes());
        }
        if stdin.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_finds_no_room_comes_back() {
        let (outbox, lines) = Outbox::new();
        for _ in 0..LINES {
            assert_eq!(outbox.offer("answer".to_owned()), None);
        }
        assert_eq!(outbox.offer("call".to_owned()).as_deref(), Some("call"));
        lines.recv().unwrap();
        assert_eq!(outbox.offer("call".to_owned()), None);
        drop(lines);
        assert_eq!(outbox.offer("call".to_owned()), None, "nobody reads any more");
    }
}
