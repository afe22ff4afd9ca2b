//! Runs one guest from start to power-off and evaluates it. The guest is never stopped at a success marker:
//! its actions after the marker belong to the installation. It is stopped by watchdogs, by the caller,
//! because of too much output, and shortly after it has reported a failure.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::console_log::ConsoleLog;
use super::qmp::ControlSocket;
use super::serial::{Lines, Scanner};
use super::standstill::Judge;
use super::watch::Watch;
use super::{Machine, Qemu};
use crate::error::{Error, Kind};
use crate::process::{Event, Running};

/// The interval at which the caller can cancel, and so the maximum delay of a cancellation.
const TICK: Duration = Duration::from_millis(200);
/// Time for further output after a reported failure: the explanation usually follows.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Time for output after the exit of the program; it may arrive late, but not much later.
const DRAIN: Duration = Duration::from_secs(2);
/// Maximum length of the console output in bytes; more output is an error.
const MAX_CONSOLE: u64 = 64 << 20;
/// Maximum number of bytes kept of qemu's own error output.
const MAX_COMPLAINT: usize = 16 << 10;

/// Messages of any Linux guest that cannot continue, each with a hint.
const FATAL: [(&str, &str); 3] = [
    ("Kernel panic - not syncing", "the log shows what the kernel was doing"),
    ("Initramfs unpacking failed", "give the guest more memory: three times the initrd and more"),
    // The only disk is the first virtio disk. The guest does not always notice the loss of data.
    (
        "I/O error, dev vda",
        "the host could not read or write the disk: see its kernel log and quota",
    ),
];

/// Prefixes of lines that firmware and the kernel's own loader print before the kernel runs.
const BEFORE_KERNEL: [&str; 9] = [
    "SeaBIOS",
    "Machine UUID",
    "iPXE",
    "Press ",
    "Booting from",
    "Probing EDD",
    "early console",
    "Decompressing Linux",
    "Booting the kernel",
];

const LOOK: &str = "the end of the log says what the guest did last";

/// Options for running and evaluating a guest.
pub struct RunOptions<'a> {
    /// The file to which the console output is appended; if it is too long, only its start and its end are
    /// kept.
    pub log: &'a Path,
    /// Texts that must all be printed, in any order.
    pub success_markers: &'a [String],
    /// Texts that each mean that the guest has failed; kernel panics are detected in addition.
    pub failure_markers: &'a [String],
    /// Maximum duration of the run.
    pub total_timeout: Duration,
    /// Maximum time without output.
    pub silence_timeout: Duration,
    /// Maximum time without output before the kernel has printed a line; `None` means `silence_timeout`.
    pub start_timeout: Option<Duration>,
    /// Time after which a guest is ended whose processors kvm does not really run; `None` if they are not
    /// watched. It is declared hung up to three seconds later.
    pub hang_timeout: Option<Duration>,
    /// Number of bytes that must stay free on the file system of the disk: qemu pauses a guest whose writes
    /// find no space, and a paused guest prints nothing.
    pub reserve: u64,
    /// Called with each line of the console, without escape sequences.
    pub on_line: &'a mut dyn FnMut(&str),
    /// Called several times a second; `true` ends the guest.
    pub cancelled: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for RunOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunOptions").field("log", &self.log).finish_non_exhaustive()
    }
}

/// The result of a guest that succeeded.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The time from start to power-off.
    pub duration: Duration,
    /// The time from start to each success marker.
    pub markers: Vec<(String, Duration)>,
    /// Number of bytes that the guest wrote to its console.
    pub console_bytes: u64,
}

impl Qemu {
    /// Runs the machine until it powers off.
    ///
    /// Errors: [`Kind::Guest`] the guest failed, panicked, printed too much, or ended without all success
    /// markers · [`Kind::Timeout`] · [`Kind::NoSpace`] · [`Kind::Cancelled`] · [`Kind::Tool`] qemu itself
    /// failed. The first two and the last have the end of the log as the detail `log`.
    pub fn run(&self, machine: &Machine, options: RunOptions<'_>) -> Result<Outcome, Error> {
        let log = ConsoleLog::open(options.log)?;
        tracing::debug!(command = self.command_line(machine), "starting guest");
        // Without a place for the socket, the other limits remain.
        let control = options.hang_timeout.and_then(|_| ControlSocket::create());
        let mut call = self.call(machine);
        call.args.extend(control.iter().flat_map(ControlSocket::arguments));
        let qemu = call.spawn()?;
        let processors = control
            .as_ref()
            .zip(options.hang_timeout)
            .map(|(control, limit)| (Watch::start(control.path()), Judge::new(limit)));
        let failures = options.failure_markers.iter().map(String::as_str);
        let run = Run {
            success: Scanner::new(options.success_markers.iter().map(String::as_str)),
            failure: Scanner::new(FATAL.iter().map(|(marker, _)| *marker).chain(failures)),
            lines: Lines::default(),
            complaint: Vec::new(),
            started: false,
            started_at: Instant::now(),
            last_output: Instant::now(),
            failed: None,
            markers: Vec::new(),
            console_bytes: 0,
            qemu,
            log,
            disk: machine.disk.clone(),
            processors,
            _control: control,
            options,
        };
        run.finish()
    }
}

struct Run<'a> {
    options: RunOptions<'a>,
    disk: PathBuf,
    qemu: Running,
    log: ConsoleLog,
    success: Scanner,
    failure: Scanner,
    lines: Lines,
    complaint: Vec<u8>,
    /// Whether the console printed a line of the kernel or a later program.
    started: bool,
    started_at: Instant,
    /// The time of the last console output.
    last_output: Instant,
    /// The first failure marker and its time.
    failed: Option<(String, Instant)>,
    markers: Vec<(String, Duration)>,
    console_bytes: u64,
    /// The watch over the processors and what it found so far.
    processors: Option<(Watch, Judge)>,
    /// Removed when the guest has ended.
    _control: Option<ControlSocket>,
}

impl Run<'_> {
    fn finish(mut self) -> Result<Outcome, Error> {
        let watched = self.watch();
        self.lines.finish(self.options.on_line);
        let logged = self.log.finish();
        watched?;
        logged.map_err(|source| Error::io("cannot write", self.options.log, source))?;
        if let Some((marker, _)) = self.failed.take() {
            return Err(self.guest_failed(&marker));
        }
        let status = self.qemu.status()?;
        if !status.success() {
            return Err(self.qemu_failed(status));
        }
        let missing: Vec<String> = self.success.missing().map(|text| format!("`{text}`")).collect();
        if missing.is_empty() {
            let duration = self.started_at.elapsed();
            let console_bytes = self.console_bytes;
            return Ok(Outcome { duration, markers: self.markers, console_bytes });
        }
        let message =
            format!("the guest ended without printing {}; its log is", missing.join(", "));
        Err(self.with_log(Error::new(Kind::Guest, message)).with_hint(LOOK))
    }

    /// Returns when the guest has ended or its failure was reported; an error ends the guest (by dropping
    /// it).
    fn watch(&mut self) -> Result<(), Error> {
        let mut exited_at: Option<Instant> = None;
        while !self.qemu.is_over() {
            if (self.options.cancelled)() {
                return Err(Error::new(Kind::Cancelled, "the guest was stopped on request"));
            }
            if let Some((_, since)) = &self.failed
                && since.elapsed() >= LAST_WORDS
            {
                return Ok(());
            }
            if self.qemu.has_exited() {
                let since = *exited_at.get_or_insert_with(Instant::now);
                if since.elapsed() >= DRAIN {
                    return Ok(());
                }
            } else {
                self.check_watchdogs()?;
                self.check_processors()?;
                self.check_space()?;
            }
            match self.qemu.next(self.next_tick()) {
                Some(Event::Stdout(piece)) => self.console(&piece)?,
                Some(Event::Stderr(piece)) => {
                    let room = MAX_COMPLAINT.saturating_sub(self.complaint.len());
                    self.complaint.extend_from_slice(&piece[..piece.len().min(room)]);
                }
                Some(Event::End | Event::Exited) | None => {}
            }
        }
        Ok(())
    }

    fn next_tick(&self) -> Duration {
        let total = self.options.total_timeout.saturating_sub(self.started_at.elapsed());
        let silence = self.silence().saturating_sub(self.last_output.elapsed());
        TICK.min(total).min(silence)
    }

    /// Returns the time for which the guest may currently be silent.
    fn silence(&self) -> Duration {
        let limit = self.options.silence_timeout;
        let start = self.options.start_timeout.filter(|_| !self.started);
        start.map_or(limit, |start| start.min(limit))
    }

    fn check_watchdogs(&self) -> Result<(), Error> {
        let (total, silence) = (self.options.total_timeout, self.silence());
        let what = if self.started_at.elapsed() >= total {
            format!("the guest did not finish within {} s", seconds(total))
        } else if self.last_output.elapsed() >= silence {
            let when =
                if silence < self.options.silence_timeout { " before its kernel ran" } else { "" };
            format!("the guest was silent for {} s{when}", seconds(silence))
        } else {
            return Ok(());
        };
        let done = self.success.missing().next().is_none() && !self.markers.is_empty();
        let after = if done { " (after it had reported success)" } else { "" };
        let error = Error::new(Kind::Timeout, format!("{what}{after}; its log is"));
        Err(self.with_log(error).with_hint(
            "look at the end of the log; on a slow host give it more time or use a host with kvm",
        ))
    }

    fn check_processors(&mut self) -> Result<(), Error> {
        let Some((watch, judge)) = &mut self.processors else { return Ok(()) };
        let hang = std::iter::from_fn(|| watch.next())
            .find_map(|look| judge.observe(&look, self.last_output));
        let Some(hang) = hang else { return Ok(()) };
        let error = Error::new(Kind::Timeout, format!("{hang}; the guest's log is"));
        Err(self.with_log(error).with_hint("use tcg, or another host"))
    }

    fn check_space(&self) -> Result<(), Error> {
        // If the file system does not answer, the guest continues.
        let Ok(facts) = rustix::fs::statvfs(&self.disk) else { return Ok(()) };
        let free = facts.f_bavail.saturating_mul(facts.f_frsize);
        if free >= self.options.reserve {
            return Ok(());
        }
        let message = format!("the guest was stopped, only {free} bytes are free for its disk");
        Err(Error::new(Kind::NoSpace, message)
            .at(&self.disk)
            .with_hint("free some space or choose another folder, then run again"))
    }

    fn console(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.last_output = Instant::now();
        self.console_bytes += piece.len() as u64;
        self.log
            .write(piece)
            .map_err(|source| Error::io("cannot write", self.options.log, source))?;
        let (on_line, started) = (&mut self.options.on_line, &mut self.started);
        self.lines.feed(piece, &mut |line| {
            let line_start = line.trim_start();
            *started |= !line_start.is_empty()
                && !BEFORE_KERNEL.iter().any(|begin| line_start.starts_with(begin));
            on_line(line);
        });
        for marker in self.success.feed(piece) {
            self.markers.push((marker, self.started_at.elapsed()));
        }
        if let Some(marker) = self.failure.feed(piece).into_iter().next() {
            self.failed.get_or_insert((marker, self.last_output));
        }
        if self.console_bytes > MAX_CONSOLE {
            let message = format!(
                "the guest flooded its console with more than {MAX_CONSOLE} bytes; its log is"
            );
            return Err(self.with_log(Error::new(Kind::Guest, message)).with_hint(LOOK));
        }
        Ok(())
    }

    fn guest_failed(&self, marker: &str) -> Error {
        let error = Error::new(Kind::Guest, format!("the guest reported `{marker}`; its log is"));
        let error = self.with_log(error);
        match FATAL.iter().find(|(fatal, _)| *fatal == marker) {
            Some((_, hint)) => error.with_hint(*hint),
            None => error.with_hint(LOOK),
        }
    }

    fn qemu_failed(&self, status: ExitStatus) -> Error {
        let complaint = String::from_utf8_lossy(&self.complaint);
        let last_line = complaint.lines().next_back().unwrap_or("it said nothing").to_owned();
        let error =
            Error::new(Kind::Tool, format!("qemu ended with {status}: {last_line}; the log is"));
        let error = self.with_log(error).with_detail("qemu", complaint);
        error.with_hint(if status.signal() == Some(9) {
            "the host may be out of memory: close programs or lower the guest's"
        } else {
            "when it complains about kernel or initrd, the ISO is damaged; else look at the end of the log"
        })
    }

    fn with_log(&self, error: Error) -> Error {
        error.at(self.options.log).with_detail("log", self.lines.tail())
    }
}

fn seconds(duration: Duration) -> String {
    let text = format!("{:.1}", duration.as_secs_f64());
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}
