//! Runs one guest from start to power-off.

use std::{
    cell::Cell,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use build_image_disk::{
    Kind,
    qemu::{Accel, KVM_HANG, Machine, RunOptions},
};

use super::InstallContext;
use crate::{
    error::{Error, Stage},
    source::from_disk,
};

/// Longest silence of a guest under kvm before it is tried without kvm.
const KVM_SILENCE: Duration = Duration::from_secs(300);
/// Longest silence before its kernel prints anything, which happens within a second or two where kvm works.
const KVM_START: Duration = Duration::from_secs(18);
/// Minimum number of bytes of an initrd that a kernel unpacks per second; it prints nothing meanwhile.
const UNPACKED_PER_SECOND: u64 = 16 << 20;
/// Number of seconds without output after which the silence is shown.
const QUIET: u64 = 5;
/// Number of bytes that must stay free on the host for the guest's disk.
const RESERVE: u64 = 32 << 20;
/// Maximum number of bytes of a guest's output in the tool's own log; the serial log contains all of it.
const LOGGED: usize = 4 << 20;

/// Why a pass failed, and whether the guest hung.
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) hung: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, hung: false }
    }
}

/// The name of a pass, and the texts that decide its result.
pub(super) struct Run<'a> {
    /// Its name for display.
    pub(super) what: &'a str,
    /// Name of its serial log.
    pub(super) log: &'a str,
    /// All of these texts must be printed.
    pub(super) success: &'a [String],
    /// Any of these texts ends the pass.
    pub(super) failure: &'a [String],
    /// A text that should be printed; the caller decides what its absence means.
    pub(super) expected: Option<&'a str>,
}

/// A guest that succeeded.
pub(super) struct Ran {
    /// Time from start to power-off.
    pub(super) took: Duration,
    /// Whether the expected text was printed, or none was expected.
    pub(super) has_expected: bool,
}

impl InstallContext<'_> {
    /// Runs a guest until it ends.
    pub(super) fn run(&self, run: &Run<'_>, machine: &Machine) -> Result<Ran, Failed> {
        let (what, log) = (run.what, self.logs.join(run.log));
        tracing::info!(pass = what, log = %log.display(), "starting {}", self.qemu.command_line(machine));
        // A guest that kvm does not really run prints nothing at all; it is not given the time of a slow guest.
        let unsure = machine.accel == Accel::Kvm && self.may_choose();
        let silence = self.installation.machine.silence;
        let silence = if unsure { silence.min(KVM_SILENCE) } else { silence };
        let (mut logged, mut has_expected, begun) = (0, run.expected.is_none(), Instant::now());
        let kernel = machine.kernel.as_ref().filter(|_| unsure);
        let timer = Silence::new();
        let options = RunOptions {
            log: &log,
            success_markers: run.success,
            failure_markers: run.failure,
            total_timeout: self.installation.machine.total,
            silence_timeout: silence,
            start_timeout: kernel.map(|kernel| start(&kernel.initrd)),
            hang_timeout: unsure.then_some(KVM_HANG),
            reserve: RESERVE,
            on_line: &mut |line| {
                if logged < LOGGED {
                    logged += line.len() + 1;
                    tracing::debug!(target: "guest", "{line}");
                }
                has_expected = has_expected || run.expected.is_some_and(|text| line.contains(text));
                timer.line();
                self.reporter.alive(line);
            },
            // Called several times a second, so that an old line is not shown as if it were new.
            cancelled: &|| {
                if let Some(seconds) = timer.news() {
                    self.reporter.alive(&format!("no output for {seconds} s"));
                }
                self.interrupt.is_set()
            },
        };
        let outcome = self.qemu.run(machine, options);
        self.reporter.clear();
        outcome.map(|outcome| Ran { took: outcome.duration, has_expected }).map_err(|error| {
            // A guest that prints until its time limit is slow, and slower without kvm.
            let over = begun.elapsed() >= self.installation.machine.total;
            let hung = error.kind() == Kind::Timeout && !over;
            let mut error = from_disk(Stage::Disk, error);
            error.message = format!("{what}: {}", error.message);
            error.context.push(("serial log".to_owned(), log.display().to_string()));
            Failed { error, hung }
        })
    }
}

/// Measures how long a guest has printed nothing.
struct Silence {
    /// Time of the last line.
    since: Cell<Instant>,
    /// Seconds that were shown last.
    reported: Cell<u64>,
}

impl Silence {
    fn new() -> Self {
        Self { since: Cell::new(Instant::now()), reported: Cell::new(0) }
    }

    fn line(&self) {
        self.since.set(Instant::now());
        self.reported.set(0);
    }

    /// Returns the seconds if they are worth showing and differ from those shown last.
    fn news(&self) -> Option<u64> {
        let seconds = self.since.get().elapsed().as_secs();
        (seconds >= QUIET && self.reported.replace(seconds) != seconds).then_some(seconds)
    }
}

/// Returns how long a kernel with this initrd may print nothing under a working kvm.
fn start(initrd: &Path) -> Duration {
    let bytes = fs::metadata(initrd).map_or(0, |file| file.len());
    KVM_START + Duration::from_secs(bytes / UNPACKED_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_reported_once_a_second_after_a_while_and_ends_with_a_line() {
        let silence = Silence::new();
        let quiet_for = |seconds| {
            let since = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
            silence.since.set(since);
            silence.news()
        };
        assert_eq!(quiet_for(QUIET - 1), None);
        assert_eq!(quiet_for(QUIET), Some(QUIET));
        assert_eq!(quiet_for(QUIET), None, "shown already");
        assert_eq!(quiet_for(QUIET + 60), Some(QUIET + 60));
        silence.line();
        assert_eq!(silence.news(), None);
        assert_eq!(quiet_for(QUIET + 60), Some(QUIET + 60), "another silence as long");
    }
}
