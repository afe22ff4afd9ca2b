//! Acceleration is proven, not assumed: on some hosts `/dev/kvm` opens and guests never start. A tiny
//! guest must come back within seconds before kvm is used; otherwise tcg, with the reason.

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
/// A working guest needs a fraction of a second; a loaded host may need a little more.
const PROBE_LIMIT: Duration = Duration::from_secs(4);
/// So many probe guests must come back, one after the other.
const PROBES: u32 = 3;

/// How a guest's instructions are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// By the processor.
    Kvm,
    /// Translated by qemu: works everywhere, some ten times slower.
    Tcg,
}

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccelWish {
    /// kvm when it is proven to work, else tcg.
    #[default]
    Auto,
    /// kvm or an error.
    Kvm,
    /// tcg without looking for kvm.
    Tcg,
}

/// The decision and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to use.
    pub accel: Accel,
    /// Why, as a fragment for people.
    pub reason: String,
    /// How long ago the probe guests ran, when this is a remembered verdict.
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
    /// Decides how guests run on this host; takes some seconds unless a verdict is remembered.
    pub fn choose_accel(&self, wish: AccelWish) -> Result<Verdict, Error> {
        let tcg = |reason: &str, remembered| {
            Ok(Verdict { accel: Accel::Tcg, reason: reason.to_owned(), remembered })
        };
        if wish == AccelWish::Tcg {
            return tcg("tcg was asked for", None);
        }
        let (proven, remembered) = match opens(Path::new(KVM)) {
            Ok(()) => self.kvm_verdict(wish),
            // A right that is missing may be given at any moment: nothing to remember.
            Err(why) => (Err(why), None),
        };
        match proven {
            Ok(reason) => Ok(Verdict { accel: Accel::Kvm, reason, remembered }),
            Err(why) if wish == AccelWish::Kvm => {
                let message = format!("kvm was asked for and does not work: {why}");
                Err(Error::new(Kind::Unsupported, message)
                    .with_hint("use another host, or `tcg`, which is slower but works everywhere"))
            }
            Err(why) => tcg(&why, remembered),
        }
    }

    /// Notes that kvm hung although its probe guests came back.
    pub fn distrust_kvm(&self, why: &str) {
        if let Some(verdicts) = &self.verdicts {
            verdicts.store(self, Err(why));
        }
    }

    /// Whether kvm works, and how old the remembered verdict is that says so.
    pub(super) fn kvm_verdict(
        &self,
        wish: AccelWish,
    ) -> (Result<String, String>, Option<Duration>) {
        let known = self.verdicts.as_ref().and_then(|verdicts| verdicts.recall(self));
        // Who insists on kvm gets a fresh answer, not an old no.
        if let Some(known) = known.filter(|known| known.proven.is_ok() || wish == AccelWish::Auto) {
            return (known.proven, Some(known.age));
        }
        let proven = self.proven_often().map(|took| {
            format!("{PROBES} probe guests came back, the last after {} ms", took.as_millis())
        });
        if let Some(verdicts) = &self.verdicts {
            verdicts.store(self, proven.as_deref().map_err(String::as_str));
        }
        (proven, None)
    }

    /// On some hosts one guest comes back and the next one hangs: several must come back in a row.
    fn proven_often(&self) -> Result<Duration, String> {
        (0..PROBES).try_fold(Duration::ZERO, |_, _| self.proven(Accel::Kvm, PROBE_LIMIT))
    }

    /// Runs the probe guest; how long it took, or why it is not to be trusted.
    pub(super) fn proven(&self, accel: Accel, limit: Duration) -> Result<Duration, String> {
        let mut sector = tempfile::NamedTempFile::new()
            .map_err(|error| format!("no temporary file for a probe guest: {error}"))?;
        sector
            .write_all(&boot_sector::sector())
            .map_err(|error| format!("cannot write the probe guest: {error}"))?;
        let begun = Instant::now();
        let mut guest =
            self.probe_call(accel, sector.path()).spawn().map_err(|error| chain(&error))?;
        let (mut console, mut complaint) = (Vec::new(), Vec::new());
        while !guest.is_over() {
            match guest.next(limit.saturating_sub(begun.elapsed())) {
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
            return Ok(begun.elapsed());
        }
        let complaint = String::from_utf8_lossy(&complaint);
        let complaint = complaint.lines().next().unwrap_or("without a word");
        Err(format!("a probe guest under {accel} failed ({status}: {complaint})"))
    }

    fn probe_call(&self, accel: Accel, sector: &Path) -> Call {
        let exit = format!("isa-debug-exit,iobase={:#x},iosize=4", boot_sector::EXIT_PORT);
        let accel = accel_option(accel);
        let words = "-no-user-config -nodefaults -machine pc -m 32 -display none -serial stdio \
            -monitor none -nic none -no-reboot -boot c -accel";
        let mut args: Vec<_> =
            words.split(' ').filter(|word| !word.is_empty()).map(Into::into).collect();
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

/// An error and its causes in one line.
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
        assert!(opens(directory.path()).is_err(), "a folder is no device to write to");
    }

    #[test]
    fn wishes_are_spelled_in_one_way() {
        assert_eq!("auto".parse::<AccelWish>().unwrap(), AccelWish::Auto);
        assert!("KVM".parse::<AccelWish>().unwrap_err().hint().is_some());
    }
}
