//! Records from `/proc` the properties of this process that a provider must not change, and the resources that it
//! must release.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Properties of the whole process; a provider must not change any of them.
pub(super) struct Surroundings {
    directory: Option<PathBuf>,
    environment: BTreeMap<OsString, OsString>,
    /// File mode mask; blocked, ignored and handled signals.
    status: BTreeMap<String, String>,
}

const STATUS: [(&str, &str); 4] = [
    ("Umask", "the umask"),
    ("SigBlk", "the blocked signals"),
    ("SigIgn", "the ignored signals"),
    ("SigCgt", "the signal handlers"),
];

impl Surroundings {
    pub(super) fn now() -> Self {
        // Of this thread: other threads may just be starting threads, which blocks their signals for a moment.
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let rows = status.lines().filter_map(|line| line.split_once(':'));
        let status = rows
            .filter(|(name, _)| STATUS.iter().any(|(row, _)| row == name))
            .map(|(name, value)| (name.to_owned(), without_own(name, value.trim())))
            .collect();
        Self {
            directory: std::env::current_dir().ok(),
            environment: std::env::vars_os().collect(),
            status,
        }
    }

    /// Returns the properties that have changed since.
    pub(super) fn changes(&self) -> Vec<String> {
        let now = Self::now();
        let mut changes = Vec::new();
        if now.directory != self.directory {
            changes.push("the working directory".to_owned());
        }
        let names = self.environment.keys().chain(now.environment.keys());
        let changed =
            names.filter(|name| self.environment.get(*name) != now.environment.get(*name));
        let mut changed: Vec<String> =
            changed.map(|name| format!("environment variable {}", name.display())).collect();
        changed.sort();
        changed.dedup();
        changes.extend(changed);
        for (row, what) in STATUS {
            let value = |of: &Self| of.status.get(row).cloned().unwrap_or_default();
            if value(&now) != value(self) {
                changes.push(format!("{what}: {}, then {}", value(self), value(&now)));
            }
        }
        changes
    }
}

/// Signals 32 and 33 belong to the C library, which handles them once the first thread starts.
const C_LIBRARY: u64 = 0b11 << 31;

/// Removes from a signal mask the signals that are not under a provider's control.
fn without_own(row: &str, value: &str) -> String {
    match u64::from_str_radix(value, 16) {
        Ok(mask) if row.starts_with("Sig") => format!("{:x}", mask & !C_LIBRARY),
        _ => value.to_owned(),
    }
}

/// Number of threads and open files of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footprint {
    pub(super) threads: usize,
    pub(super) files: usize,
}

impl Footprint {
    pub(super) fn now() -> Self {
        let entries = |folder: &str| fs::read_dir(folder).map_or(0, Iterator::count);
        Self { threads: entries("/proc/self/task"), files: entries("/proc/self/fd") }
    }

    /// Returns the footprint once threads that are ending have ended; waits for a second at most.
    pub(super) fn settled(self) -> Self {
        let end = Instant::now() + Duration::from_secs(1);
        loop {
            let now = Self::now();
            let small = now.threads <= self.threads && now.files <= self.files;
            if small || Instant::now() >= end {
                return now;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Describes what grew.
    pub(super) fn growth(self, after: Self) -> Option<String> {
        let grown = |before: usize, after: usize, what: &str| {
            (after > before).then(|| format!("{} {what} more", after - before))
        };
        let threads = grown(self.threads, after.threads, "threads");
        let files = grown(self.files, after.files, "open files");
        let grown: Vec<String> = threads.into_iter().chain(files).collect();
        (!grown.is_empty()).then(|| grown.join(", "))
    }
}
