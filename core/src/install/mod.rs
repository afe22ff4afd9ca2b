//! Installs an ISO onto a raw disk: runs the passes that the installer describes, then the first boot of the disk
//! itself.
//!
//! ```text
//! boot.rs   kernel and initrd of a pass, the memory it needs     reuse.rs  reuse of installed disks
//! pass.rs   one guest from start to power-off                    medium.rs an ISO that must not change
//! shape.rs  what decides the content of the disk
//! ```

mod boot;
mod medium;
mod pass;
mod reuse;
mod shape;

use std::path::{Path, PathBuf};

use build_image_disk::{
    installer::{FirstBoot, Pass},
    qemu::{Accel, AccelWish, Boot, Kernel, Machine, Qemu, Verdict, VerdictFile},
    raw,
};

use crate::{
    error::{Error, Result, Stage},
    installers::refused,
    interrupt::Interrupt,
    plan::Installation,
    report::Reporter,
    settings::{Environment, Key, keys},
    source::from_disk,
};
use medium::Medium;
use pass::{Failed, Ran, Run};
pub use reuse::InstallFingerprint;
pub(crate) use shape::shape;

/// The parameters and services of an installation.
pub struct InstallContext<'a> {
    /// What is installed.
    pub installation: &'a Installation,
    /// Path of the disk to create.
    pub disk: &'a Path,
    /// Size of the disk, in bytes.
    pub size: u64,
    /// Directory for temporary files.
    pub work: &'a Path,
    /// Directory in which the serial logs are kept.
    pub logs: &'a Path,
    /// The qemu that runs the guests.
    pub qemu: &'a Qemu,
    /// Acceleration.
    pub accel: &'a Verdict,
    /// Reports progress.
    pub reporter: &'a Reporter,
    /// Reports cancellation.
    pub interrupt: &'a Interrupt,
}

/// Finds qemu; `given` is the program that the user named.
///
/// # Errors
/// When it is not found.
pub fn find_qemu(given: Option<&Path>, environment: &Environment) -> Result<Qemu> {
    let found = Qemu::find(given, &environment.for_children());
    let qemu = found.map_err(|error| {
        let mut error = from_disk(Stage::Disk, error);
        // Installing packages does not help if the user named a program.
        if let Some(hint) = error.hint.as_mut().filter(|_| given.is_none()) {
            hint.push_str("; build-image doctor --install does it");
        }
        error
    })?;
    Ok(match environment.cache_directory() {
        Some(directory) => qemu.with_verdicts(VerdictFile::in_directory(&directory)),
        None => qemu,
    })
}

/// Decides how guests run: acceleration is tested, not assumed.
///
/// # Errors
/// When the requested acceleration does not work.
pub fn choose_accel(requested: &str, qemu: &Qemu) -> Result<Verdict> {
    let disk_error = |error| from_disk(Stage::Disk, error);
    let requested: AccelWish = requested.parse().map_err(disk_error)?;
    let verdict = qemu.choose_accel(requested).map_err(disk_error)?;
    tracing::info!(qemu = qemu.version(), accel = %verdict.accel, reason = verdict.reason, "qemu found");
    Ok(verdict)
}

impl InstallContext<'_> {
    /// Creates the disk.
    ///
    /// # Errors
    /// What is missing on the ISO, the guest's failure, or an error of the file system.
    pub fn install(&self) -> Result<()> {
        let accel = self.accel.accel;
        match self.passes(accel) {
            Ok(()) => Ok(()),
            // The probes succeeded, the real guest did not: observed on hosts with nested virtualization.
            Err(failed) if failed.hung && accel == Accel::Kvm && self.may_choose() => {
                self.qemu.distrust_kvm("an installing guest hung under kvm");
                let text = format!("{}; starting again without kvm", failed.error.message);
                self.reporter.warning(&text, None);
                self.passes(Accel::Tcg).map_err(|failed| {
                    // The guest hangs by itself: that is not the fault of kvm.
                    if failed.hung {
                        self.qemu.forget_verdict();
                    }
                    failed.error
                })
            }
            Err(failed) => Err(failed.error),
        }
    }

    /// Returns whether this program may choose the acceleration.
    fn may_choose(&self) -> bool {
        self.installation.machine.accel == "auto"
    }

    fn passes(&self, accel: Accel) -> Result<(), Failed> {
        let installation = self.installation;
        let passes = installation.prepared.passes(&installation.files).map_err(refused)?;
        // Checked before the first pass, which may take long.
        passes.iter().try_for_each(boot::check)?;
        let media = installation.isos().map(|(_, path, digest)| Medium::of(path, digest));
        let media = media.collect::<Result<Vec<Medium<'_>>>>()?;
        for (number, pass) in passes.iter().enumerate() {
            let kernel = self.kernel(pass)?;
            if number == 0 {
                raw::create(self.disk, self.size, raw::Existing::Replace)
                    .map_err(|error| from_disk(Stage::Disk, error))?;
            }
            self.installer(pass, accel, &media, kernel)?;
        }
        match &installation.document().first_boot {
            Some(boot) => self.first_boot(boot, accel),
            None => Ok(()),
        }
    }

    /// Boots the installed disk.
    fn first_boot(&self, boot: &FirstBoot, accel: Accel) -> Result<(), Failed> {
        let machine = self.machine(accel, None, None)?;
        let run = Run {
            what: "first boot",
            log: &boot.log,
            success: &boot.success,
            failure: &[],
            expected: boot.expected.as_ref().map(|expected| expected.text.as_str()),
        };
        let Ran { took, has_expected } = self.run(&run, &machine)?;
        self.reporter.milestone(&format!("first boot done in {} s", took.as_secs()));
        if let Some(expected) = boot.expected.as_ref().filter(|_| !has_expected) {
            let note = &expected.otherwise;
            self.reporter.warning(&note.text, note.hint.as_deref());
        }
        Ok(())
    }

    /// Runs a pass of the installer.
    fn installer(
        &self,
        pass: &Pass,
        accel: Accel,
        media: &[Medium<'_>],
        kernel: Kernel,
    ) -> Result<(), Failed> {
        let machine = self.machine(accel, Some(pass.cdrom.clone()), Some(kernel))?;
        let run = Run {
            what: &pass.name,
            log: &pass.log,
            success: &pass.success,
            failure: &pass.failure,
            expected: None,
        };
        let used = [&pass.cdrom, &pass.kernel.iso, &pass.initrd.iso];
        let used = media.iter().filter(|medium| used.iter().any(|path| *path == medium.path));
        let unchanged = || used.clone().try_for_each(Medium::check);
        // qemu opens the ISO by its name: before and after, it must be the verified file.
        unchanged()?;
        let ran = self.run(&run, &machine);
        if !self.interrupt.is_set() {
            unchanged()?;
        }
        let took = ran?.took;
        self.reporter.milestone(&format!("{} in {} s", pass.done, took.as_secs()));
        self.interrupt.check()?;
        Ok(())
    }

    fn machine(
        &self,
        accel: Accel,
        cdrom: Option<PathBuf>,
        kernel: Option<Kernel>,
    ) -> Result<Machine> {
        let to_u32 = |key: Key, number: u64| {
            u32::try_from(number)
                .map_err(|_| Error::new(Stage::Settings, format!("{key}: {number} is too large")))
        };
        let machine = &self.installation.machine;
        Ok(Machine {
            memory_mib: to_u32(keys::QEMU_MEMORY, machine.memory_mib)?,
            cpus: to_u32(keys::QEMU_CPUS, machine.cpus)?,
            accel,
            disk: self.disk.to_owned(),
            boot: if cdrom.is_some() { Boot::Cdrom } else { Boot::Disk },
            cdrom,
            kernel,
        })
    }
}
