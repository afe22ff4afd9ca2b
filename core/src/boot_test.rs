//! Boots an image in qemu before it is sent, or on request, and reports how far it came. The image is never written.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use build_image_disk::{
    Format, Kind,
    facts::Facts,
    qemu::{
        Accel, BootEnd, BootImage, BootReport, BootStage, BootTest, DiskBus, Firmware, KVM_HANG,
        Nic, Qemu, TargetMachine,
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result, Stage},
    install,
    interrupt::Interrupt,
    report::Reporter,
    settings::{BootDiskBus, BootFirmware, BootNic, Key, Resolved, keys},
    source::from_disk,
};

/// Longest time without a change of console and screen.
const SILENCE: Duration = Duration::from_secs(150);
/// Number of seconds without a line after which the silence is shown.
const QUIET: u64 = 5;

/// What is booted, and what is used for it.
pub struct BootContext<'a> {
    /// The settings.
    pub settings: &'a Resolved,
    /// The qemu.
    pub qemu: &'a Qemu,
    /// The image.
    pub image: BootImage,
    /// Its format.
    pub format: Format,
    /// How the image is called in messages.
    pub name: &'a str,
    /// Facts of the disk; without them the firmware is BIOS unless the settings name another one.
    pub facts: Option<&'a Facts>,
    /// The file that gets the output of the console; it stays only if the boot fails.
    pub log: Option<&'a Path>,
    /// The file that gets a picture of the screen if the boot fails.
    pub picture: Option<&'a Path>,
    /// Reports progress.
    pub reporter: &'a Reporter,
    /// Reports cancellation.
    pub interrupt: &'a Interrupt,
}

/// The result of a boot test, for documents. Member names are part of the public interface.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BootTested {
    /// `ready`, or the stage at which the boot ended.
    pub stage: String,
    /// Whether the guest came up.
    pub ready: bool,
    /// The text that shows it.
    pub evidence: String,
    /// Seconds from start to end.
    pub seconds: f64,
    /// Format of the image that was booted.
    pub format: String,
    /// Whether qemu read the image as it would be sent, without a file.
    pub served: bool,
    /// `BIOS` or `UEFI`.
    pub firmware: String,
    /// `kvm` or `tcg`.
    pub acceleration: String,
    /// Last lines of the console, or of the screen.
    pub last_lines: Vec<String>,
    /// File with the output of the console.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial_log: Option<PathBuf>,
    /// File with a picture of the screen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub screen: Option<PathBuf>,
}

/// Checks before the long steps that this host has the firmware of a boot test, as far as it is known which one that
/// is.
///
/// # Errors
/// When it is not installed.
pub(crate) fn check_firmware(settings: &Resolved, facts: Option<&Facts>) -> Result<()> {
    if settings.core().boot.enabled {
        firmware(settings, facts)?;
    }
    Ok(())
}

fn firmware(settings: &Resolved, facts: Option<&Facts>) -> Result<Firmware> {
    let uefi = match settings.core().boot.firmware {
        BootFirmware::Auto => facts.is_some_and(Facts::is_uefi_only),
        BootFirmware::Bios => false,
        BootFirmware::Uefi => true,
    };
    if uefi {
        Firmware::find_uefi().map_err(|error| from_disk(Stage::Disk, error))
    } else {
        Ok(Firmware::Bios)
    }
}

impl BootContext<'_> {
    /// Boots the image. A guest that does not boot is a result, not an error.
    ///
    /// # Errors
    /// When qemu, the firmware, or the acceleration is missing, when the image cannot be read, or when it is
    /// cancelled.
    pub fn run(&self) -> Result<BootTested> {
        let set = self.settings.core();
        let verdict = install::choose_accel(&set.machine.accel, self.qemu)?;
        let mut machine = self.machine(verdict.accel)?;
        let text = format!(
            "booting {} in qemu ({}, {})",
            self.name,
            machine.firmware.name(),
            machine.accel
        );
        self.reporter.begin("boot", &text);
        let mut report = self.boot(&machine);
        if let Err(error) = &report
            && error.kind() == Kind::Timeout
            && set.machine.accel == "auto"
        {
            self.qemu.distrust_kvm(&format!("a guest of a boot test hung: {error}"));
            self.reporter.warning(&format!("{error}; starting again without kvm"), None);
            machine.accel = Accel::Tcg;
            report = self.boot(&machine);
        }
        self.reporter.clear();
        let report = report.map_err(|error| from_disk(Stage::Disk, error));
        if report.as_ref().map_or(true, BootReport::is_ready) {
            self.log.map(fs::remove_file);
        }
        self.interrupt.check()?;
        let report = report?;
        let tested = self.tested(&report, &machine);
        self.reporter.end(&if report.is_ready() {
            format!("up: {}", report.evidence)
        } else {
            format!("not up, stage: {}", report.end)
        });
        Ok(tested)
    }

    fn machine(&self, accel: Accel) -> Result<TargetMachine> {
        let set = self.settings.core();
        let to_u32 = |key: Key, number: u64| {
            u32::try_from(number)
                .map_err(|_| Error::new(Stage::Settings, format!("{key}: {number} is too large")))
        };
        let firmware = firmware(self.settings, self.facts)?;
        Ok(TargetMachine {
            memory_mib: to_u32(keys::QEMU_MEMORY, set.machine.memory.div_ceil(1 << 20))?,
            cpus: to_u32(keys::QEMU_CPUS, set.machine.cpus)?,
            accel,
            firmware,
            bus: match set.boot.bus {
                BootDiskBus::Virtio => DiskBus::Virtio,
                BootDiskBus::Nvme => DiskBus::Nvme,
                BootDiskBus::Scsi => DiskBus::Scsi,
                BootDiskBus::Sata => DiskBus::Sata,
            },
            nic: match set.boot.nic {
                BootNic::None => Nic::None,
                BootNic::Virtio => Nic::Virtio,
                BootNic::E1000 => Nic::E1000,
            },
            format: self.format,
        })
    }

    fn boot(&self, machine: &TargetMachine) -> Result<BootReport, build_image_disk::Error> {
        let set = self.settings.core();
        let unsure = machine.accel == Accel::Kvm && set.machine.accel == "auto";
        let last_line = Cell::new((Instant::now(), 0));
        self.log.map(fs::remove_file);
        self.qemu.boot_test(BootTest {
            machine,
            image: self.image.clone(),
            marker: set.boot.marker.as_deref(),
            total_timeout: set.boot.timeout,
            silence_timeout: SILENCE,
            hang_timeout: unsure.then_some(KVM_HANG),
            log: self.log,
            picture: self.picture,
            on_line: &mut |line| {
                tracing::debug!(target: "guest", "{line}");
                last_line.set((Instant::now(), 0));
                self.reporter.alive(line);
            },
            cancelled: &|| {
                let (since, shown) = last_line.get();
                let seconds = since.elapsed().as_secs();
                if seconds >= QUIET && seconds != shown {
                    last_line.set((since, seconds));
                    self.reporter.alive(&format!("no output for {seconds} s"));
                }
                self.interrupt.is_set()
            },
        })
    }

    fn tested(&self, report: &BootReport, machine: &TargetMachine) -> BootTested {
        let existing = |path: Option<&Path>| path.filter(|path| path.is_file()).map(Path::to_owned);
        BootTested {
            stage: report.end.to_string(),
            ready: report.is_ready(),
            evidence: report.evidence.clone(),
            seconds: (report.took.as_secs_f64() * 1000.0).round() / 1000.0,
            format: self.format.to_string(),
            served: matches!(self.image, BootImage::Export(_)),
            firmware: machine.firmware.name().to_owned(),
            acceleration: machine.accel.to_string(),
            last_lines: report.last_lines.clone(),
            serial_log: existing(self.log),
            screen: existing(self.picture.filter(|_| report.has_picture)),
        }
    }
}

impl BootTested {
    fn hint(&self) -> String {
        let found = INIT.iter().find(|(text, _)| self.evidence.contains(text));
        found.map_or_else(
            || hint(&self.stage, self.screen.is_some()),
            |(_, hint)| (*hint).to_owned(),
        )
    }

    /// Returns the error of an image that does not boot; `None` if it does.
    #[must_use]
    pub fn error(&self, name: &str) -> Option<Error> {
        if self.ready {
            return None;
        }
        let text = format!("{name} does not boot: {}: {}", self.stage, self.evidence);
        let mut error = Error::new(Stage::Disk, text).hint(self.hint());
        error.context.push(("last lines".to_owned(), self.last_lines.join("\n")));
        let files = [("serial log", &self.serial_log), ("screen", &self.screen)];
        for (what, file) in files {
            let file = file.as_ref().map(|file| (what.to_owned(), file.display().to_string()));
            error.context.extend(file);
        }
        Some(error)
    }
}

/// Texts of Linux and of initramfs-tools about the first program of a system, and what to do.
const INIT: [(&str, &str); 4] = [
    ("No init found", NO_INIT),
    ("No working init found", NO_INIT),
    ("Requested init ", NO_INIT),
    (
        "Attempted to kill init",
        "the first program of the system ended: see what it printed before, such as a missing library",
    ),
];
const NO_INIT: &str = "install an init system on the root file system, or name its program with the kernel's argument init=";

/// Returns what to do about a boot that ended at a stage.
fn hint(stage: &str, has_picture: bool) -> String {
    let firmware = BootEnd::Failed(BootStage::Firmware).to_string();
    let loader = BootEnd::Failed(BootStage::BootLoader).to_string();
    let initramfs = BootEnd::Failed(BootStage::Initramfs).to_string();
    let (panic, emergency) = (BootEnd::Panic.to_string(), BootEnd::Emergency.to_string());
    if stage == firmware {
        format!("install a boot loader, or test with the other firmware ({})", keys::BOOT_FIRMWARE)
    } else if stage == loader {
        "install and configure the boot loader of the disk again".to_owned()
    } else if stage == initramfs || stage == panic {
        format!(
            "name the root file system by its UUID, and put the driver of its disk into the initramfs ({} is the disk of the test)",
            keys::BOOT_DISK_BUS
        )
    } else if stage == emergency {
        "correct /etc/fstab: name file systems by UUID, and those that may be missing with nofail"
            .to_owned()
    } else if has_picture {
        format!(
            "look at the picture of the screen; add console=ttyS0 to the kernel's arguments, or set {}",
            keys::BOOT_MARKER
        )
    } else {
        format!(
            "add console=ttyS0 to the kernel's arguments, set {}, or give it more time ({})",
            keys::BOOT_MARKER,
            keys::BOOT_TIMEOUT
        )
    }
}

/// Returns an image's export, shared.
pub(crate) fn export(image: impl build_image_disk::nbd::Export + 'static) -> BootImage {
    BootImage::Export(Arc::new(image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_does_not_boot_is_an_error_with_its_stage_and_a_hint_for_it() {
        let ends = [
            (BootEnd::Failed(BootStage::Firmware), "BOOT_FIRMWARE"),
            (BootEnd::Failed(BootStage::BootLoader), "boot loader"),
            (BootEnd::Failed(BootStage::Initramfs), "UUID"),
            (BootEnd::Panic, "initramfs"),
            (BootEnd::Emergency, "/etc/fstab"),
            (BootEnd::Silent, "console=ttyS0"),
            (BootEnd::TimedOut(BootStage::Kernel), "BOOT_TIMEOUT"),
        ];
        for (end, word) in ends {
            let tested = BootTested {
                stage: end.to_string(),
                evidence: "what was printed".to_owned(),
                last_lines: vec!["one".to_owned(), "two".to_owned()],
                ..BootTested::default()
            };
            let error = tested.error("`d.raw`").unwrap();
            let text = format!("`d.raw` does not boot: {end}: what was printed");
            assert_eq!((error.message, error.stage), (text, Stage::Disk));
            assert!(error.hint.as_ref().unwrap().contains(word), "{end}: {:?}", error.hint);
            assert_eq!(error.context[0].1, "one\ntwo");
        }
        for (end, line, word) in [
            (
                BootEnd::Failed(BootStage::Initramfs),
                "No init found. Try passing init= bootarg.",
                "init=",
            ),
            (BootEnd::Panic, "Kernel panic - not syncing: No working init found.", "init="),
            (
                BootEnd::Panic,
                "Kernel panic - not syncing: Requested init /x failed (error -2).",
                "init=",
            ),
            (
                BootEnd::Panic,
                "Kernel panic - not syncing: Attempted to kill init! exitcode=0x7f00",
                "library",
            ),
            (BootEnd::Panic, "Kernel panic - not syncing: VFS: Unable to mount root fs", "UUID"),
        ] {
            let (stage, evidence) = (end.to_string(), line.to_owned());
            let error = BootTested { stage, evidence, ..BootTested::default() }.error("d");
            let hint = error.unwrap().hint.unwrap();
            assert!(hint.contains(word), "{line}: {hint}");
        }
        assert!(BootTested { ready: true, ..BootTested::default() }.error("d").is_none());
    }
}
