//! One guest from start to end.

use std::{
    cell::Cell,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use build_image_disk::{
    Kind,
    qemu::{Accel, Machine, RunOptions},
};

use super::InstallContext;
use crate::{
    error::{Error, Stage},
    source::from_disk,
};

/// Longest silence of a guest under kvm before it is tried without.
const KVM_SILENCE: Duration = Duration::from_secs(300);
/// The same before its kernel has printed anything, which takes a second or two where kvm works.
const KVM_START: Duration = Duration::from_secs(18);
/// Bytes of an initrd that a kernel which prints nothing meanwhile unpacks in a second, at the least.
const UNPACKED_PER_SECOND: u64 = 16 << 20;
/// After so many seconds without output, that is what is shown.
const QUIET: u64 = 5;
/// The guest's disk must find so many bytes free on the host.
const RESERVE: u64 = 32 << 20;
/// So many bytes of a guest's lines go into the tool's own log; all of them are in the serial log.
const LOGGED: usize = 4 << 20;

/// Why a pass failed, and whether the guest just hung.
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) hung: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, hung: false }
    }
}

/// What a pass is called, and the words that decide it.
pub(super) struct Run<'a> {
    /// For people.
    pub(super) what: &'a str,
    /// Name of its serial log.
    pub(super) log: &'a str,
    /// All of these must be printed.
    pub(super) success: &'a [&'a str],
    /// Any of these ends it.
    pub(super) failure: &'a [&'a str],
    /// Should be printed; the caller decides what it means when it is not.
    pub(super) wanted: Option<&'a str>,
}

/// A guest that did what it was started for.
pub(super) struct Ran {
    /// From start to power-off.
    pub(super) took: Duration,
    /// Whether the wanted words were printed, or none were wanted.
    pub(super) wanted: bool,
}

impl InstallContext<'_> {
    /// Runs a guest to its end.
    pub(super) fn run(&self, run: &Run<'_>, machine: &Machine) -> Result<Ran, Failed> {
        let (what, log) = (run.what, self.logs.join(run.log));
        tracing::info!(pass = what, log = %log.display(), "starting {}", self.qemu.command_line(machine));
        // A guest that kvm does not really run says nothing at all; do not wait for it as for a slow one.
        let unsure = machine.accel == Accel::Kvm && self.may_choose();
        let silence = self.installation.machine.silence;
        let silence = if unsure { silence.min(KVM_SILENCE) } else { silence };
        let owned = |words: &[&str]| -> Vec<String> {
            words.iter().map(|word| (*word).to_owned()).collect()
        };
        let (success_markers, failure_markers) = (owned(run.success), owned(run.failure));
        let (mut logged, mut wanted, begun) = (0, run.wanted.is_none(), Instant::now());
        let kernel = machine.kernel.as_ref().filter(|_| unsure);
        let heard = Silence::new();
        let options = RunOptions {
            log: &log,
            success_markers: &success_markers,
            failure_markers: &failure_markers,
            total_timeout: self.installation.machine.total,
            silence_timeout: silence,
            start_timeout: kernel.map(|kernel| start(&kernel.initrd)),
            reserve: RESERVE,
            on_line: &mut |line| {
                if logged < LOGGED {
                    logged += line.len() + 1;
                    tracing::debug!(target: "guest", "{line}");
                }
                wanted = wanted || run.wanted.is_some_and(|words| line.contains(words));
                heard.line();
                self.reporter.alive(line);
            },
            // Asked several times a second, so that an old line is not shown as if it were new.
            cancelled: &|| {
                if let Some(seconds) = heard.news() {
                    self.reporter.alive(&format!("no output for {seconds} s"));
                }
                self.interrupt.is_set()
            },
        };
        let outcome = self.qemu.run(machine, options);
        self.reporter.clear();
        outcome.map(|outcome| Ran { took: outcome.duration, wanted }).map_err(|error| {
            // One that talks until its time is over is slow, and slower without kvm.
            let over = begun.elapsed() >= self.installation.machine.total;
            let hung = error.kind() == Kind::Timeout && !over;
            let mut error = from_disk(Stage::Disk, error);
            error.message = format!("{what}: {}", error.message);
            error.context.push(("serial log".to_owned(), log.display().to_string()));
            Failed { error, hung }
        })
    }
}

/// How long a guest has printed nothing.
struct Silence {
    /// When the last line came.
    since: Cell<Instant>,
    /// Seconds that were shown last.
    shown: Cell<u64>,
}

impl Silence {
    fn new() -> Self {
        Self { since: Cell::new(Instant::now()), shown: Cell::new(0) }
    }

    fn line(&self) {
        self.since.set(Instant::now());
        self.shown.set(0);
    }

    /// The seconds, when they are worth showing and others than those shown last.
    fn news(&self) -> Option<u64> {
        let seconds = self.since.get().elapsed().as_secs();
        (seconds >= QUIET && self.shown.replace(seconds) != seconds).then_some(seconds)
    }
}

/// How long a kernel that is started with this initrd may print nothing under a kvm that works.
fn start(initrd: &Path) -> Duration {
    let bytes = fs::metadata(initrd).map_or(0, |file| file.len());
    KVM_START + Duration::from_secs(bytes / UNPACKED_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_news_once_a_second_after_a_while_and_over_with_a_line() {
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
