//! Decides whether guests run with kvm. On some hosts `/dev/kvm` can be opened but guests never start, so kvm
//! is used only after a tiny probe guest has ended within seconds; otherwise tcg is used, with the reason.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::Qemu;
use super::boot_sector;
use super::machine::{accel_option, drive_option};
use crate::error::{Error, Kind};
use crate::process::{Call, Event};

const KVM: &str = "/dev/kvm";
/// Time limit of a probe guest. A working guest needs a fraction of a second; a loaded host may need a little
/// more.
const PROBE_LIMIT: Duration = Duration::from_secs(4);
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
        while !guest.is_over() {
            match guest.next(limit.saturating_sub(started_at.elapsed())) {
                Some(Event::Stdout(piece)) => console.extend(piece),
                Some(Event::Stderr(piece)) => complaint.extend(piece),
                Some(Event::End | Event::Exited) => {}
                None => {
                    return Err(format!(
                        "a probe guest under {accel} hangs (no sign of life within {} s)",
                        limit.as_secs()
                    ));
                }
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
    fn accelerations_are_spelled_in_one_way() {
        assert_eq!("auto".parse::<AccelWish>().unwrap(), AccelWish::Auto);
        assert!("KVM".parse::<AccelWish>().unwrap_err().hint().is_some());
    }
}
