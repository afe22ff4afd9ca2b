//! Boots an image that is never written, on a machine as the target has it, and reports how far it came.
//!
//! ```text
//! machine.rs   TargetMachine → argv, pure     stage.rs   text on console and screen → stage, end
//! firmware.rs  SeaBIOS or OVMF                screen.rs  the screen: its text, and a picture
//! ```
//!
//! The image is a file, or an export: then qemu reads it through [`crate::nbd`]. What the guest writes goes to a
//! temporary file of qemu without a name.

mod firmware;
mod machine;
mod screen;
mod stage;

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use firmware::Firmware;
pub use machine::{DiskBus, Nic, TargetMachine};
pub use stage::{BootEnd, BootStage};

use super::Qemu;
use super::console_log::ConsoleLog;
use super::qmp::{ControlSocket, listen};
use super::serial::Lines;
use super::standstill::Judge;
use super::watch::Watch;
use crate::error::{Error, Kind};
use crate::nbd::{Export, NbdServer};
use crate::process::{Event, Running};
use machine::ImageSource;
use screen::Screen;
use stage::Progress;

/// The interval at which the caller can cancel.
const TICK: Duration = Duration::from_millis(200);
/// Time for which a message of failure must be the last one: an explanation usually follows, or another attempt.
const LAST_WORDS: Duration = Duration::from_secs(4);
/// Maximum number of bytes kept of qemu's own error output.
const MAX_COMPLAINT: usize = 16 << 10;
/// Maximum length of the console output in bytes; more output ends the test.
const MAX_CONSOLE: u64 = 64 << 20;
/// Number of last lines in a report.
const LAST_LINES: usize = 12;

/// The image that is booted.
#[derive(Clone)]
pub enum BootImage {
    /// A file, which qemu opens for reading.
    File(PathBuf),
    /// Bytes that exist nowhere else.
    Export(Arc<dyn Export>),
}

impl fmt::Debug for BootImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Export(_) => f.write_str("Export"),
        }
    }
}

/// What a boot test needs.
pub struct BootTest<'a> {
    /// The machine.
    pub machine: &'a TargetMachine,
    /// The image.
    pub image: BootImage,
    /// A text on console or screen that means success instead of a login prompt and similar signs.
    pub marker: Option<&'a str>,
    /// Longest time of the test.
    pub total_timeout: Duration,
    /// Longest time without a change of console and screen.
    pub silence_timeout: Duration,
    /// Time after which a guest is ended whose processors kvm does not really run; `None` if they are not watched.
    pub hang_timeout: Option<Duration>,
    /// The file to which the console output is appended; `None` if it is not kept.
    pub log: Option<&'a Path>,
    /// The file that gets a picture of the screen, as PNG, when the boot fails.
    pub picture: Option<&'a Path>,
    /// Called with each line of the console.
    pub on_line: &'a mut dyn FnMut(&str),
    /// Called several times a second; `true` ends the test.
    pub cancelled: &'a dyn Fn() -> bool,
}

impl fmt::Debug for BootTest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootTest").field("machine", self.machine).finish_non_exhaustive()
    }
}

/// How a boot ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootReport {
    /// The end.
    pub end: BootEnd,
    /// The line that proves it, or a description.
    pub evidence: String,
    /// The time from start to end.
    pub took: Duration,
    /// The last lines of the console, or of the screen if the console has none.
    pub last_lines: Vec<String>,
    /// Whether the picture was written.
    pub has_picture: bool,
}

impl BootReport {
    /// Returns whether the guest came up.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.end == BootEnd::Ready
    }
}

impl Qemu {
    /// Boots an image and watches it until it is up or cannot boot. A guest that does not boot is a report, not an
    /// error.
    ///
    /// # Errors
    /// [`Kind::Cancelled`] · [`Kind::Timeout`] kvm does not run the guest · [`Kind::Tool`] qemu itself failed · an
    /// error of reading the image.
    pub fn boot_test(&self, test: BootTest<'_>) -> Result<BootReport, Error> {
        let place = ControlSocket::create().ok_or_else(|| {
            Error::new(Kind::Tool, "cannot find a directory for the sockets of a boot test")
                .with_hint("set TMPDIR to a directory with a short path that can be written to")
        })?;
        let (nbd, source) = match &test.image {
            BootImage::File(path) => (None, ImageSource::File(path.clone())),
            BootImage::Export(image) => {
                let socket = place.file("nbd");
                (Some(NbdServer::start(Arc::clone(image), &socket)?), ImageSource::Nbd(socket))
            }
        };
        let mut call = self.call_with(test.machine.argv(&source, self.has_sandbox()));
        call.args.extend(listen(&place.file("screen"), "screen"));
        let control = test.hang_timeout.and_then(|_| ControlSocket::create());
        call.args.extend(control.iter().flat_map(ControlSocket::arguments));
        let log = test.log.map(ConsoleLog::open).transpose()?;
        let command = crate::process::command_line(&call.program, &call.args);
        tracing::debug!(command, "starting boot test");
        let qemu = call.spawn()?;
        let processors = control
            .as_ref()
            .zip(test.hang_timeout)
            .map(|(control, limit)| (Watch::start(control.path()), Judge::new(limit)));
        let boot = Boot {
            screen: Screen::watch(place.file("screen")),
            progress: Progress::new(test.marker),
            qemu,
            log,
            lines: Lines::default(),
            recent: VecDeque::new(),
            shown: Vec::new(),
            complaint: Vec::new(),
            console_bytes: 0,
            started_at: Instant::now(),
            changed_at: Instant::now(),
            ended_at: None,
            processors,
            drawn: place.file("screen.png"),
            test,
        };
        let report = boot.finish();
        match nbd.as_ref().and_then(NbdServer::take_error) {
            // The guest fails because its disk does.
            Some(error) => Err(error),
            None => report,
        }
    }
}

struct Boot<'a> {
    test: BootTest<'a>,
    qemu: Running,
    log: Option<ConsoleLog>,
    screen: Screen,
    progress: Progress,
    lines: Lines,
    /// The last lines of the console.
    recent: VecDeque<String>,
    /// The lines on the screen.
    shown: Vec<String>,
    complaint: Vec<u8>,
    console_bytes: u64,
    started_at: Instant,
    /// The time of the last change of console or screen.
    changed_at: Instant,
    /// When the end was first recognised.
    ended_at: Option<Instant>,
    processors: Option<(Watch, Judge)>,
    /// Where qemu writes the picture.
    drawn: PathBuf,
}

impl Boot<'_> {
    fn finish(mut self) -> Result<BootReport, Error> {
        let watched = self.watch();
        if let (Some(log), Some(path)) = (&mut self.log, self.test.log) {
            log.finish().map_err(|source| Error::io("cannot write", path, source))?;
        }
        let (end, evidence) = watched?;
        let took = self.started_at.elapsed();
        let has_picture = end != BootEnd::Ready && self.draw()?;
        let last_lines = if self.recent.is_empty() { self.shown } else { self.recent.into() };
        let skipped = last_lines.len().saturating_sub(LAST_LINES);
        let last_lines = last_lines.into_iter().skip(skipped).collect();
        Ok(BootReport { end, evidence, took, last_lines, has_picture })
    }

    /// Returns how the boot ended; an error ends the guest (by dropping it).
    fn watch(&mut self) -> Result<(BootEnd, String), Error> {
        loop {
            if (self.test.cancelled)() {
                return Err(Error::new(Kind::Cancelled, "the boot test was stopped on request"));
            }
            if let Some(end) = self.recognised() {
                return Ok(end);
            }
            if self.qemu.is_over() {
                return self.switched_off();
            }
            if let Some(what) = self.time_is_over() {
                return Ok((self.progress.at_time_out(), what));
            }
            self.check_processors()?;
            match self.qemu.next(TICK) {
                Some(Event::Stdout(piece)) => self.console(&piece)?,
                Some(Event::Stderr(piece)) => {
                    let room = MAX_COMPLAINT.saturating_sub(self.complaint.len());
                    self.complaint.extend_from_slice(&piece[..piece.len().min(room)]);
                }
                Some(Event::End | Event::Exited) | None => {}
            }
            self.look_at_screen();
        }
    }

    /// Returns the end that text has proven. A failure counts once nothing better followed for a while.
    fn recognised(&mut self) -> Option<(BootEnd, String)> {
        let Some((end, line)) = self.progress.end() else {
            self.ended_at = None;
            return None;
        };
        let since = *self.ended_at.get_or_insert_with(Instant::now);
        let is_final =
            *end == BootEnd::Ready || since.elapsed() >= LAST_WORDS || self.qemu.is_over();
        is_final.then(|| (*end, line.clone()))
    }

    fn time_is_over(&self) -> Option<String> {
        let (total, silence) = (self.test.total_timeout, self.test.silence_timeout);
        if self.started_at.elapsed() >= total {
            Some(format!("not up within {} s", total.as_secs()))
        } else if self.changed_at.elapsed() >= silence {
            Some(format!("nothing printed for {} s", silence.as_secs()))
        } else if self.console_bytes > MAX_CONSOLE {
            Some(format!("more than {MAX_CONSOLE} bytes on the console"))
        } else {
            None
        }
    }

    fn switched_off(&mut self) -> Result<(BootEnd, String), Error> {
        let status = self.qemu.status()?;
        if status.success() {
            return Ok((self.progress.at_power_off(), "the guest switched itself off".to_owned()));
        }
        let complaint = String::from_utf8_lossy(&self.complaint);
        let last_line = complaint.lines().next_back().unwrap_or("it printed nothing").to_owned();
        let text = format!("qemu ended with {status} in the boot test: {last_line}");
        Err(Error::new(Kind::Tool, text).with_detail("qemu", complaint))
    }

    fn check_processors(&mut self) -> Result<(), Error> {
        let Some((watch, judge)) = &mut self.processors else { return Ok(()) };
        let changed = self.changed_at;
        let hang =
            std::iter::from_fn(|| watch.next()).find_map(|look| judge.observe(&look, changed));
        hang.map_or(Ok(()), |hang| {
            Err(Error::new(Kind::Timeout, hang).with_hint("use tcg, or another host"))
        })
    }

    fn console(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.changed_at = Instant::now();
        self.console_bytes += piece.len() as u64;
        if let (Some(log), Some(path)) = (&mut self.log, self.test.log) {
            log.write(piece).map_err(|source| Error::io("cannot write", path, source))?;
        }
        let (progress, recent, on_line) =
            (&mut self.progress, &mut self.recent, &mut self.test.on_line);
        self.lines.feed(piece, &mut |line| {
            progress.line(line, true);
            on_line(line);
            if !line.trim().is_empty() {
                recent.push_back(line.to_owned());
                if recent.len() > LAST_LINES {
                    recent.pop_front();
                }
            }
        });
        progress.line(&self.lines.partial(), false);
        Ok(())
    }

    fn look_at_screen(&mut self) {
        let Some(shown) = self.screen.text() else { return };
        if shown == self.shown {
            return;
        }
        self.changed_at = Instant::now();
        for line in shown.iter().filter(|line| !self.shown.contains(line)) {
            // A line of the screen may be one that the console has shown, so it is not counted.
            self.progress.line(line, false);
        }
        self.shown = shown;
    }

    /// Draws the screen into the requested file; returns whether there is a picture.
    fn draw(&self) -> Result<bool, Error> {
        let Some(path) = self.test.picture else { return Ok(false) };
        if self.qemu.has_exited() || !self.screen.picture(&self.drawn) {
            return Ok(false);
        }
        let copied = fs::copy(&self.drawn, path);
        copied.map(|_| true).map_err(|source| Error::io("cannot write", path, source))
    }
}

#[cfg(test)]
mod tests;
