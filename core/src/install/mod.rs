//! Installs an ISO onto a raw disk: the installer's pass, the hotfix's pass if one is set, then the first boot
//! of the disk itself.
//!
//! ```text
//! boot.rs   kernel and initrd of a pass, the memory it needs     tree.rs   injected files and directories
//! pass.rs   one guest from start to power-off                    reuse.rs  reuse of installed disks
//! medium.rs an ISO that must not change after verification
//! ```

mod boot;
mod medium;
mod pass;
mod reuse;
mod tree;

use std::path::{Path, PathBuf};

use build_image_disk::{
    qemu::{Accel, AccelWish, Boot, Kernel, Machine, Qemu, Verdict, VerdictFile},
    raw,
};

use crate::{
    error::{Error, Result, Stage},
    interrupt::Interrupt,
    plan::Installation,
    product::{self, Pass},
    report::Reporter,
    settings::{Environment, Key, keys},
    source::from_disk,
};
pub use boot::check_boot;
use medium::Medium;
use pass::{Failed, Ran, Run};
pub use reuse::InstallFingerprint;

/// The parameters and services of an installation.
pub struct InstallContext<'a> {
    /// What is installed.
    pub installation: &'a Installation,
    /// Provider.
    pub platform: &'a str,
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
                self.passes(Accel::Tcg).map_err(|failed| failed.error)
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
        if let Some(hotfix) = &installation.hotfix {
            // Checked before the long pass, not after it.
            boot::check_initrd(&hotfix.path)?;
        }
        let base = Medium::of(&installation.iso, installation.iso_digest.as_ref())?;
        let hotfix = installation.hotfix.as_ref();
        let hotfix = hotfix.map(|hotfix| Medium::of(&hotfix.path, hotfix.digest.as_ref()));
        let hotfix = hotfix.transpose()?;
        let kernel = self.kernel(Pass::Rtm)?;
        raw::create(self.disk, self.size, raw::Existing::Replace)
            .map_err(|error| from_disk(Stage::Disk, error))?;
        self.installer(Pass::Rtm, accel, &base, kernel)?;
        if let Some(hotfix) = &hotfix {
            let kernel = self.kernel(Pass::Hotfix)?;
            // Kernel and arguments come from the base ISO.
            base.check()?;
            self.installer(Pass::Hotfix, accel, hotfix, kernel)?;
        }
        let relabel: &[&str] = match installation.guest.hypervisor {
            Some(_) => &product::RELABEL_MARKERS,
            None if installation.machine.require_relabel => &[product::RELABEL_MARKER],
            None => &[],
        };
        let machine = self.machine(accel, None, None)?;
        let run = Run {
            what: "first boot",
            log: "qemu.selinux_relabeling.log",
            success: relabel,
            failure: &[],
            expected: Some(product::RELABEL_MARKER),
        };
        let Ran { took, has_expected } = self.run(&run, &machine)?;
        self.reporter.milestone(&format!("first boot done in {} s", took.as_secs()));
        if !has_expected {
            let text = format!(
                "the first boot ended without printing `{}`: the files of the image may have no SELinux labels",
                product::RELABEL_MARKER
            );
            self.reporter.warning(
                &text,
                Some("look for denials when the image runs; --require-relabel makes this an error"),
            );
        }
        Ok(())
    }

    /// Runs a pass of the installer.
    fn installer(
        &self,
        pass: Pass,
        accel: Accel,
        cdrom: &Medium<'_>,
        kernel: Kernel,
    ) -> Result<(), Failed> {
        let (what, log, done) = match pass {
            Pass::Rtm => ("install", "qemu.iso.log", "installed"),
            Pass::Hotfix => ("hotfix", "qemu.hotfix.log", "hotfix installed"),
        };
        let machine = self.machine(accel, Some(cdrom.path.to_owned()), Some(kernel))?;
        let run = Run {
            what,
            log,
            success: &[pass.success_marker()],
            failure: &[pass.failure_marker()],
            expected: None,
        };
        // qemu opens the ISO by its name: before and after, it must be the verified file.
        cdrom.check()?;
        let ran = self.run(&run, &machine);
        if !self.interrupt.is_set() {
            cdrom.check()?;
        }
        let took = ran?.took;
        self.reporter.milestone(&format!("{done} in {} s", took.as_secs()));
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
