//! One guest from start to end.

use std::time::Duration;

use build_image_disk::{
    Kind,
    qemu::{Accel, Machine, RunOptions},
};

use super::Workshop;
use crate::{
    error::{Error, Stage},
    source::from_disk,
};

/// Longest silence of a guest under kvm before it is tried without.
const KVM_SILENCE: Duration = Duration::from_secs(300);
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
}

impl Workshop<'_> {
    /// Runs a guest to its end; returns how long it took.
    pub(super) fn run(&self, run: &Run<'_>, machine: &Machine) -> Result<Duration, Failed> {
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
        let mut logged = 0;
        let options = RunOptions {
            log: &log,
            success_markers: &success_markers,
            failure_markers: &failure_markers,
            total_timeout: self.installation.machine.total,
            silence_timeout: silence,
            reserve: RESERVE,
            on_line: &mut |line| {
                if logged < LOGGED {
                    logged += line.len() + 1;
                    tracing::debug!(target: "guest", "{line}");
                }
                self.reporter.alive(line);
            },
            cancelled: &|| self.interrupt.is_set(),
        };
        let outcome = self.qemu.run(machine, options);
        self.reporter.clear();
        outcome.map(|outcome| outcome.duration).map_err(|error| {
            let hung = error.kind() == Kind::Timeout;
            let mut error = from_disk(Stage::Disk, error);
            error.message = format!("{what}: {}", error.message);
            error.context.push(("serial log".to_owned(), log.display().to_string()));
            Failed { error, hung }
        })
    }
}
