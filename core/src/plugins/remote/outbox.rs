//! Writes lines to a process from a separate thread, so that a process that does not read cannot block threads
//! that must not block.

use std::{
    io::Write as _,
    process::ChildStdin,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use crate::plugins::trace::{Direction, Tracer};

/// Capacity of the queue, in lines.
const LINES: usize = 1024;

/// The queue to a process's standard input, shared by all writers.
#[derive(Clone)]
pub(super) struct Outbox(Arc<Mutex<Option<SyncSender<String>>>>);

impl Outbox {
    /// Creates an outbox and the receiver of its lines.
    pub(super) fn new() -> (Self, Receiver<String>) {
        let (sender, lines) = sync_channel(LINES);
        (Self(Arc::new(Mutex::new(Some(sender)))), lines)
    }

    /// Queues a line; waits while the queue is full.
    pub(super) fn send(&self, line: String) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sender) = sender {
            // Sending fails only when the process has ended.
            let _ = sender.send(line);
        }
    }

    /// Queues a line, unless the queue is full or closed. Returns whether it was queued.
    pub(super) fn try_send(&self, line: String) -> bool {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().is_some_and(|sender| sender.try_send(line).is_ok())
    }

    /// Queues a line, unless the queue is full: then the line is returned. When the queue is closed, the line
    /// is dropped because there is no reader.
    pub(super) fn offer(&self, line: String) -> Option<String> {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match sender.as_ref()?.try_send(line) {
            Err(TrySendError::Full(line)) => Some(line),
            Ok(()) | Err(TrySendError::Disconnected(_)) => None,
        }
    }

    /// Closes the queue: the process's input ends after the queued lines.
    pub(super) fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Writes lines until the queue is closed and empty; then the process's input ends.
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
    fn a_line_is_returned_when_the_queue_is_full() {
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
