//! Runs a probe in a separate process, so that the suite continues whatever the provider does there.
//!
//! The job is sent on standard input because it may contain secrets; the answer is returned in a file because
//! standard output is observed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    evidence::{Answer, Death, Ended},
    probe::Probe,
};

/// Files in the directory of a job.
const ANSWER: &str = "answer.json";
const REFUSAL: &str = "refusal.json";
const STEP: &str = "step";

/// Job of a child process.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) probe: Probe,
    pub(super) file: PathBuf,
    /// Directory of this job only.
    pub(super) directory: PathBuf,
    pub(super) settings: BTreeMap<String, Value>,
    pub(super) secrets: BTreeMap<String, String>,
    /// The settings refer to a cloud that may be used.
    pub(super) cloud: bool,
    /// A shell command that prints what exists in that cloud, one object per line.
    pub(super) inventory: Option<String>,
    /// Settings with the addresses of servers whose requests may be disturbed.
    pub(super) faults: Vec<(String, String)>,
}

/// The call that a probe has begun last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    /// The step, and the document if it is malformed.
    pub(super) step: String,
    /// Id of the check that the call belongs to; empty = the probe's own.
    pub(super) check: String,
    /// Number of the call: two calls of a step differ.
    number: u64,
}

impl Begun {
    pub(super) fn new(step: &str, check: &str) -> Self {
        let number = CALLS.fetch_add(1, Ordering::Relaxed);
        Self { step: step.to_owned(), check: check.to_owned(), number }
    }
}

static CALLS: AtomicU64 = AtomicU64::new(0);

impl Job {
    /// Records which step begins, in case it is the last.
    pub(super) fn begins(&self, step: &str, check: &str) {
        self.write(STEP, &Begun::new(step, check));
    }

    fn begun(&self) -> Option<Begun> {
        let text = fs::read(self.directory.join(STEP)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes the answer atomically.
    pub(super) fn answer(&self, answer: &Answer) {
        self.write(ANSWER, answer);
    }

    /// Reports that the file is not a provider.
    pub(super) fn refuse(&self, message: &str, hint: Option<&str>) {
        self.write(REFUSAL, &(message, hint));
    }

    fn write(&self, name: &str, document: &impl Serialize) {
        let part = self.directory.join(format!("{name}.part"));
        let text = serde_json::to_vec(document).unwrap_or_default();
        if fs::write(&part, text).is_ok() {
            let _ = fs::rename(part, self.directory.join(name));
        }
    }
}

/// Time limits of the calls of a probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Of calls that use no cloud.
    pub(super) local: Duration,
    /// Of steps that use the cloud.
    pub(super) cloud: Duration,
}

/// Shortest limit of a step that is asked to stop: its probe gives up before.
const STOP: Duration = Duration::from_secs(8);

impl Limits {
    fn of(self, job: &Job, begun: &Begun) -> Duration {
        if job.probe == Probe::Cancel {
            return self.cloud.max(STOP);
        }
        let local = ["load", "describe", "create", "create_disk", "drop"];
        if job.probe.is_local() || local.contains(&begun.step.as_str()) {
            self.local
        } else {
            self.cloud
        }
    }
}

/// Runs a job in a child that `command` starts. A call that does not return within its limit ends the child.
pub(super) fn run(mut command: Command, job: &Job, limits: Limits) -> Ended {
    match start(&mut command, job) {
        Ok(mut child) => match wait(&mut child, job, limits) {
            Ok(status) => ending(job, status),
            Err((begun, limit)) => {
                let how = format!("`{}` did not return within {} s", begun.step, limit.as_secs());
                Ended::Died(Death::new(job.probe, begun, how))
            }
        },
        Err(error) => Ended::Omitted(format!("a process for the check cannot be started: {error}")),
    }
}

fn start(command: &mut Command, job: &Job) -> std::io::Result<Child> {
    let output = |name: &str| {
        File::options().create(true).append(true).open(job.directory.join(name)).map(Stdio::from)
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(output("stdout")?)
        .stderr(output("stderr")?)
        .spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        // The missing answer reveals a child that ends early.
        let _ = pipe.write_all(&serde_json::to_vec(job)?);
    }
    Ok(child)
}

/// How often the parent looks which call has begun.
const LOOK: Duration = Duration::from_millis(100);
/// Ticks of processor time per second in `/proc/PID/stat`, on every architecture of Linux that has plugins.
const TICKS: u64 = 100;
/// How many times its limit a call may take that computes on a busy machine.
const BUSY: u32 = 6;
/// A call that computes for less than one part in this many of its time is idle.
const IDLE: u32 = 20;

/// Returns the processor time of a process and its descendants.
fn processor_time(process: u32) -> Duration {
    let directory = PathBuf::from(format!("/proc/{process}"));
    let stat = fs::read_to_string(directory.join("stat")).unwrap_or_default();
    // After the name, which may contain anything: utime and stime are the fields 14 and 15 of proc(5).
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let threads = fs::read_dir(directory.join("task")).into_iter().flatten().flatten();
    let children =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let descendants: Duration = children
        .flat_map(|text| {
            text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>()
        })
        .map(processor_time)
        .sum();
    Duration::from_millis(ticks * 1_000 / TICKS) + descendants
}

/// Returns whether a call has exceeded its limit. One that computes gets more time where other programs use the
/// processor too.
fn is_over(limit: Duration, elapsed: Duration, computed: Duration) -> bool {
    elapsed >= limit && (computed * IDLE < elapsed || computed >= limit || elapsed >= limit * BUSY)
}

/// Waits for the child to end; kills it when a call exceeds its limit, and returns that call.
fn wait(child: &mut Child, job: &Job, limits: Limits) -> Result<ExitStatus, (Begun, Duration)> {
    let mut begun = Begun::new("load", "");
    let (mut since, mut looked, mut before) = (Instant::now(), Instant::now(), Duration::ZERO);
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Ok(status);
        }
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            let computed = processor_time(child.id());
            if let Some(now) = job.begun().filter(|now| *now != begun) {
                (begun, since, before) = (now, looked, computed);
            }
            let limit = limits.of(job, &begun);
            if is_over(limit, since.elapsed(), computed.saturating_sub(before)) {
                let _ = child.kill();
                let _ = child.wait();
                return Err((begun, limit));
            }
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn ending(job: &Job, status: ExitStatus) -> Ended {
    let read = |name: &str| fs::read(job.directory.join(name)).ok();
    let answer = read(ANSWER).and_then(|text| serde_json::from_slice::<Answer>(&text).ok());
    if let Some(answer) = answer {
        return Ended::Answered(answer);
    }
    let refusal = read(REFUSAL).and_then(|text| serde_json::from_slice(&text).ok());
    if let Some((message, hint)) = refusal {
        return Ended::Refused(message, hint);
    }
    let how = match (status.signal(), status.code()) {
        (Some(signal), _) => match signal_name(signal) {
            Some(name) => format!("the process was ended by {name}"),
            None => format!("the process was ended by signal {signal}"),
        },
        (None, code) => format!("the process exited with code {}", code.unwrap_or_default()),
    };
    let last = last_line(&job.directory.join("stderr"));
    let begun = job.begun().unwrap_or_else(|| Begun::new("load", ""));
    let how = format!("{how} while `{}` ran{last}", begun.step);
    Ended::Died(Death::new(job.probe, begun, how))
}

fn last_line(stderr: &Path) -> String {
    let text = fs::read(stderr).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(2_000)..]).into_owned();
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.map(|line| format!(": {}", line.trim())).unwrap_or_default()
}

/// Signals that end programs, by their number on Linux (signal(7)).
const SIGNALS: [(i32, &str); 12] = [
    (1, "SIGHUP"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (11, "SIGSEGV"),
    (13, "SIGPIPE"),
    (15, "SIGTERM"),
    (24, "SIGXCPU"),
    (31, "SIGSYS"),
];

/// Returns the name of a signal that ends programs.
#[must_use]
pub fn signal_name(signal: i32) -> Option<&'static str> {
    SIGNALS.iter().find(|(number, _)| *number == signal).map(|(_, name)| *name)
}

/// Number of bytes that were written to standard output and standard error of this process.
pub(super) struct Noise([u64; 2]);

const STREAMS: [(&str, &str); 2] =
    [("/proc/self/fd/1", "standard output"), ("/proc/self/fd/2", "standard error")];

impl Noise {
    /// Starts observing.
    pub(super) fn listen() -> Self {
        Self(STREAMS.map(|(path, _)| fs::metadata(path).map_or(0, |stream| stream.len())))
    }

    /// Returns the output since then, one line per stream with output.
    pub(super) fn output(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for ((path, name), before) in STREAMS.into_iter().zip(self.0) {
            // Only files can be read again: the parent passes files.
            if !fs::metadata(path).is_ok_and(|stream| stream.is_file()) {
                continue;
            }
            let all = fs::read(path).unwrap_or_default();
            let new = all.get(usize::try_from(before).unwrap_or_default()..).unwrap_or_default();
            if !new.is_empty() {
                let start = String::from_utf8_lossy(&new[..new.len().min(80)]).into_owned();
                lines.push(format!("{} bytes on {name}: {:?}", new.len(), start));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_computes_on_a_busy_machine_gets_more_time_than_one_that_waits() {
        let seconds = Duration::from_secs;
        for (elapsed, computed, expected) in [
            (9, 9, false),
            (10, 0, true),
            (10, 10, true),
            (10, 3, false),
            (50, 9, false),
            (50, 2, true),
            (60, 9, true),
        ] {
            let over = is_over(seconds(10), seconds(elapsed), seconds(computed));
            assert_eq!(over, expected, "{computed} s of {elapsed} s");
        }
    }

    #[test]
    fn processor_time_grows_with_computing() {
        let process = std::process::id();
        let before = processor_time(process);
        let mut sum = 0_u64;
        while processor_time(process) == before {
            sum = (0..1_000_000_u64).fold(sum, |sum, number| sum.rotate_left(7) ^ number);
        }
        assert!(sum != 1);
    }
}
