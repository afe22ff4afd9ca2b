//! Runs programs with a wrong clock that jumps when a test requests it.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::{root, target_directory, tool};

/// The library that intercepts the clock of programs, compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let directory = target_directory().join("jumping-clock");
        fs::create_dir_all(&directory).unwrap();
        let source = root().join("tests/harness/jumping_clock.c");
        // Other test processes compile it too.
        let (built, mine) = (directory.join("clock.so"), format!("clock.{}", std::process::id()));
        let words = ["cc", "-O1", "-Wall", "-shared", "-fPIC", "-o", &mine];
        tool(&directory, &[&words[..], &[source.to_str().unwrap(), "-ldl"]].concat());
        fs::rename(directory.join(mine), &built).unwrap();
        built
    })
}

/// A clock, kept in a file.
pub(crate) struct Clock {
    path: PathBuf,
    file: File,
}

impl Clock {
    /// A correct clock.
    pub(crate) fn new(path: PathBuf) -> Self {
        let file = File::create(&path).unwrap();
        let clock = Self { path, file };
        clock.jump(0);
        clock
    }

    /// Sets the clock ahead by this many seconds, also for programs that are running.
    pub(crate) fn jump(&self, ahead: i64) {
        self.file.write_all_at(&ahead.to_ne_bytes(), 0).unwrap();
    }

    /// Makes a program use this clock.
    pub(crate) fn rules<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("LD_PRELOAD", library()).env("FAILPOINT_CLOCK", &self.path)
    }
}
