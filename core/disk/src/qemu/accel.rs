//! Decides whether guests run with kvm. On some hosts `/dev/kvm` can be opened but guests never start, or kvm
//! emulates the code of their kernels a hundred times slower than tcg. So kvm is used only after a tiny probe
//! guest has done within seconds what a kernel does; otherwise tcg is used, with the reason.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::Qemu;
use super::boot_sector::{self, STEPS};
use super::machine::{accel_option, drive_option};
use crate::error::{Error, Kind};
use crate::process::{Call, Event};

const KVM: &str = "/dev/kvm";
/// Time limit of a probe guest. A working guest needs a fraction of a second; a loaded host may need a little
/// more.
const PROBE_LIMIT: Duration = Duration::from_secs(4);
/// Shortest time of computing from which a speed is derived.
const ENOUGH_TO_MEASURE: Duration = Duration::from_millis(500);
/// Number of consecutive probe guests that must succeed.
const PROBES: u32 = 3;

/// How the instructions of a guest are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// By the processor.
    Kvm,
    /// Translated by qemu: works everywhere, about ten times slower.
    Tcg,
}

/// The acceleration that the user requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccelWish {
    /// kvm if it is proven to work, otherwise tcg.
    #[default]
    Auto,
    /// kvm or an error.
    Kvm,
    /// tcg without trying kvm.
    Tcg,
}

/// The decision and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The acceleration to use.
    pub accel: Accel,
    /// The reason, as a fragment for people.
    pub reason: String,
    /// The age of the probe result, if it was remembered.
    pub remembered: Option<Duration>,
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

impl FromStr for AccelWish {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "auto" => Ok(Self::Auto),
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            _ => Err(Error::new(Kind::Unsupported, format!("unknown acceleration `{text}`"))
                .with_hint("known: auto, kvm, tcg")),
        }
    }
}

impl Qemu {
    /// Decides how guests run on this host. Needs some seconds unless a result is remembered.
    pub fn choose_accel(&self, requested: AccelWish) -> Result<Verdict, Error> {
        let tcg = |reason: &str, remembered| {
            Ok(Verdict { accel: Accel::Tcg, reason: reason.to_owned(), remembered })
        };
        if requested == AccelWish::Tcg {
            return tcg("tcg was asked for", None);
        }
        let (proven, remembered) = match opens(Path::new(KVM)) {
            Ok(()) => self.kvm_verdict(requested),
            // A missing permission may be granted at any time, so this result is not remembered.
            Err(why) => (Err(why), None),
        };
        match proven {
            Ok(reason) => Ok(Verdict { accel: Accel::Kvm, reason, remembered }),
            Err(why) if requested == AccelWish::Kvm => {
                let message = format!("kvm was asked for and does not work: {why}");
                Err(Error::new(Kind::Unsupported, message)
                    .with_hint("use another host, or `tcg`, which is slower but works everywhere"))
            }
            Err(why) => tcg(&why, remembered),
        }
    }

    /// Records that kvm hung although its probe guests succeeded.
    pub fn distrust_kvm(&self, why: &str) {
        if let Some(verdicts) = &self.verdicts {
            verdicts.store(self, Err(why));
        }
    }

    /// Returns whether kvm works, and the age of the remembered verdict on which the answer is based.
    pub(super) fn kvm_verdict(
        &self,
        requested: AccelWish,
    ) -> (Result<String, String>, Option<Duration>) {
        let recalled = self.verdicts.as_ref().and_then(|verdicts| verdicts.recall(self));
        // If the user requires kvm, a remembered failure is not used and kvm is probed again.
        if let Some(recalled) =
            recalled.filter(|recalled| recalled.proven.is_ok() || requested == AccelWish::Auto)
        {
            return (recalled.proven, Some(recalled.age));
        }
        let proven = self.proven_often().map(|took| {
            format!("{PROBES} probe guests came back, the last after {} ms", took.as_millis())
        });
        if let Some(verdicts) = &self.verdicts {
            verdicts.store(self, proven.as_deref().map_err(String::as_str));
        }
        (proven, None)
    }

    /// On some hosts one guest succeeds and the next one hangs, so several consecutive guests must succeed.
    fn proven_often(&self) -> Result<Duration, String> {
        (0..PROBES).try_fold(Duration::ZERO, |_, _| self.proven(Accel::Kvm, PROBE_LIMIT))
    }

    /// Runs the probe guest; returns the time it needed, or the reason why the acceleration is not trusted.
    pub(super) fn proven(&self, accel: Accel, limit: Duration) -> Result<Duration, String> {
        let mut sector = tempfile::NamedTempFile::new()
            .map_err(|error| format!("no temporary file for a probe guest: {error}"))?;
        sector
            .write_all(&boot_sector::sector())
            .map_err(|error| format!("cannot write the probe guest: {error}"))?;
        let started_at = Instant::now();
        let mut guest =
            self.probe_call(accel, sector.path()).spawn().map_err(|error| chain(&error))?;
        let (mut console, mut complaint) = (Vec::new(), Vec::new());
        let mut computing_since = None;
        while !guest.is_over() {
            match guest.next(limit.saturating_sub(started_at.elapsed())) {
                Some(Event::Stdout(piece)) => console.extend(piece),
                Some(Event::Stderr(piece)) => complaint.extend(piece),
                Some(Event::End | Event::Exited) => {}
                None => {
                    let computed = computing_since.map(|since: Instant| since.elapsed());
                    return Err(unfinished(accel, &console, computed, limit));
                }
            }
            if computing_since.is_none() && steps_done(&console) + 1 == STEPS.len() {
                computing_since = Some(Instant::now());
            }
        }
        let status = guest.status().map_err(|error| chain(&error))?;
        let printed = console.windows(boot_sector::WORD.len()).any(|w| w == boot_sector::WORD);
        if printed && status.code() == Some(boot_sector::EXIT_STATUS) {
            return Ok(started_at.elapsed());
        }
        let complaint = String::from_utf8_lossy(&complaint);
        let complaint = complaint.lines().next().unwrap_or("without a word");
        Err(format!("a probe guest under {accel} failed ({status}: {complaint})"))
    }

    fn probe_call(&self, accel: Accel, sector: &Path) -> Call {
        let exit = format!("isa-debug-exit,iobase={:#x},iosize=4", boot_sector::EXIT_PORT);
        let accel = accel_option(accel);
        let options = "-no-user-config -nodefaults -machine pc -m 32 -display none -serial stdio \
            -monitor none -nic none -no-reboot -boot c -accel";
        let mut args: Vec<_> =
            options.split(' ').filter(|option| !option.is_empty()).map(Into::into).collect();
        args.extend([accel.into(), "-device".into(), exit.into(), "-drive".into()]);
        args.push(drive_option(sector, ",format=raw,if=ide,readonly=off,snapshot=on"));
        Call { program: self.path.clone(), args, environment: self.environment.clone() }
    }
}

/// Returns the number of steps that the probe guest has reported, except for the last one.
fn steps_done(console: &[u8]) -> usize {
    (b'1'..).take(STEPS.len() - 1).take_while(|step| console.contains(step)).count()
}

/// Describes a probe guest that did not finish in time: what it did last, and how fast it computed.
fn unfinished(accel: Accel, console: &[u8], computed: Option<Duration>, limit: Duration) -> String {
    let within = format!("within {} s", limit.as_secs());
    let chunks = console.iter().filter(|byte| **byte == boot_sector::CHUNK).count() as u64;
    // The firmware prints nothing, so a guest without any output may not have started at all.
    let doing = match steps_done(console) {
        0 => "its start",
        done => STEPS[done],
    };
    match computed.filter(|time| *time >= ENOUGH_TO_MEASURE) {
        Some(time) => {
            let done = chunks * boot_sector::CHUNK_INSTRUCTIONS;
            let rate = done as f64 / time.as_secs_f64() / 1e6;
            format!(
                "a probe guest under {accel} hangs or is slower than tcg ({rate:.1} million instructions per second in 64-bit mode, not finished {within})"
            )
        }
        None => format!("a probe guest under {accel} hangs ({doing} not finished {within})"),
    }
}

fn opens(device: &Path) -> Result<(), String> {
    match OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("`{}` cannot be opened: {error}", device.display())),
    }
}

/// Formats an error and its causes as one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_which_does_not_open_is_named() {
        let why = opens(Path::new("/nowhere/kvm")).unwrap_err();
        assert!(why.contains("`/nowhere/kvm`"), "{why}");
        let directory = tempfile::tempdir().unwrap();
        assert!(opens(directory.path()).is_err(), "a directory is not a device to write to");
    }

    #[test]
    fn an_unfinished_probe_guest_is_described_by_its_last_step_and_its_speed() {
        let limit = Duration::from_secs(4);
        for (console, doing) in
            [("", "its start not"), ("12", "timer interrupts not"), ("12345", "access to devices")]
        {
            let text = unfinished(Accel::Kvm, console.as_bytes(), None, limit);
            assert!(text.contains("hangs (") && text.contains(doing), "{text}");
            assert!(text.contains("within 4 s"), "{text}");
        }
        let text = unfinished(Accel::Kvm, b"123456..", Some(Duration::from_secs(2)), limit);
        assert!(text.contains("slower than tcg (2.1 million instructions per second"), "{text}");
        let short = Some(Duration::from_millis(1));
        assert!(unfinished(Accel::Kvm, b"123456", short, limit).contains("hangs (computing not"));
    }

    #[test]
    fn accelerations_are_spelled_in_one_way() {
        assert_eq!("auto".parse::<AccelWish>().unwrap(), AccelWish::Auto);
        assert!("KVM".parse::<AccelWish>().unwrap_err().hint().is_some());
    }
}
