//! For tests of resuming, in debug builds only: BUILD_IMAGE_TRIAL_KILL ends the process, as SIGKILL does, at a
//! line of its journal. `before:3` ends it before the third line this process writes, `torn:3` in the midst
//! of it, `after:3` when it is on disk and nothing was done yet of what it announces.

use std::{fs::File, io::Write as _};

use rustix::process::{Signal, getpid, kill_process};

const VARIABLE: &str = "BUILD_IMAGE_TRIAL_KILL";

/// Where the process is to end.
#[derive(Debug, Default)]
pub(super) struct Trial {
    place: String,
    line: u64,
    written: u64,
}

impl Trial {
    #[expect(clippy::disallowed_methods, reason = "no setting: releases do not know it")]
    pub(super) fn of_process() -> Self {
        let wish = std::env::var(VARIABLE).unwrap_or_default();
        let (place, line) = wish.split_once(':').unwrap_or_default();
        Self { place: place.to_owned(), line: line.parse().unwrap_or_default(), written: 0 }
    }

    pub(super) fn before(&mut self, mut file: &File, text: &str) {
        self.written += 1;
        if self.written != self.line {
            return;
        }
        if self.place == "torn" {
            let _ = file.write_all(&text.as_bytes()[..text.len() / 2]);
        }
        if self.place != "after" {
            end();
        }
    }

    pub(super) fn after(&self) {
        if self.written == self.line && self.place == "after" {
            end();
        }
    }
}

fn end() {
    let _ = kill_process(getpid(), Signal::KILL);
}
