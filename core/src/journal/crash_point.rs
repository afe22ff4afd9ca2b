//! Implements crash points for tests, in debug builds only: BUILD_IMAGE_FAILPOINT ends the process, as SIGKILL does,
//! at a line of its journal. `before:3` ends it before the third line this process writes, `torn:3` in the middle of
//! it, `after:3` when it is on disk and nothing that it announces has been done yet. `int:3` and `term:3` send the
//! process SIGINT and SIGTERM there and let it continue; `full:3` fails the third line and all later ones as a full
//! disk does; `clock:3` moves the clock of tests, the file FAILPOINT_CLOCK, ahead by an hour. A text in place of the
//! number means the first line that contains it. `all:` before the number counts the lines of all journals of the process.

use std::{
    fs::File,
    io::{self, Write as _},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::process::{Signal, getpid, kill_process};

const VARIABLE: &str = "BUILD_IMAGE_FAILPOINT";

/// The crash point of this process.
#[derive(Debug, Default)]
pub(super) struct CrashPoint {
    place: String,
    line: u64,
    /// Whether the lines of all journals of the process count.
    all: bool,
    /// A text that the line contains, when its number is not known.
    text: String,
    written: u64,
}

impl CrashPoint {
    #[expect(clippy::disallowed_methods, reason = "not a setting: release builds do not read it")]
    pub(super) fn of_process() -> Self {
        let value = std::env::var(VARIABLE).unwrap_or_default();
        let (place, line) = value.split_once(':').unwrap_or_default();
        let of_all = line.strip_prefix("all:");
        let (all, line) = (of_all.is_some(), of_all.unwrap_or(line));
        let (line, text) = match line.parse() {
            Ok(line) => (line, String::new()),
            Err(_) => (0, line.to_owned()),
        };
        Self { place: place.to_owned(), line, all, text, written: 0 }
    }

    /// Acts before a line is written; an error replaces the write.
    pub(super) fn before(&mut self, mut file: &File, text: &str) -> io::Result<()> {
        self.written = if self.all { next_of_all() } else { self.written + 1 };
        if !self.text.is_empty() && text.contains(&self.text) {
            self.line = self.written;
            self.text.clear();
        }
        if self.place == "full" && self.line > 0 && self.written >= self.line {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if self.written != self.line {
            return Ok(());
        }
        match self.place.as_str() {
            "torn" => {
                let _ = file.write_all(&text.as_bytes()[..text.len() / 2]);
                send(Signal::KILL);
            }
            "before" => send(Signal::KILL),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn after(&self) {
        if self.written != self.line {
            return;
        }
        match self.place.as_str() {
            "after" => send(Signal::KILL),
            "int" => send(Signal::INT),
            "term" => send(Signal::TERM),
            "clock" => move_clock(),
            _ => {}
        }
    }
}

/// Counts a line of any journal of the process.
fn next_of_all() -> u64 {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    WRITTEN.fetch_add(1, Ordering::Relaxed) + 1
}

/// Moves the clock of tests: a file with the seconds by which it is ahead (tests/harness/jumping_clock.c).
#[expect(clippy::disallowed_methods, reason = "not a setting: release builds do not read it")]
fn move_clock() {
    if let Some(path) = std::env::var_os("FAILPOINT_CLOCK") {
        let file = File::options().write(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(&3600_i64.to_ne_bytes()));
    }
}

fn send(signal: Signal) {
    let _ = kill_process(getpid(), signal);
}
