//! Installs an ISO into the raw disk, unless the disk of an earlier process or build has the same inputs.

use std::{
    fs::File,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use build_image_disk::qemu::{Accel, Qemu, Verdict};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Pipeline, inputs::INPUTS, shared::Member, state::State};
use crate::{
    artifacts::{Claim, cannot},
    error::{Error, Result, Stage},
    install::{self, InstallContext, InstallFingerprint},
    plan::Installation,
    report::Outcome,
    source,
    trust::is_below,
};

/// Member of the facts of an installation: the path of the disk.
const DISK: &str = "disk";

impl Pipeline<'_> {
    /// Installs the disk and returns its path. Of the targets of a build that want the same disk, the first one installs
    /// it.
    ///
    /// # Errors
    /// When the guest fails, an input cannot be read or changes in the meantime, or another build uses the artifacts.
    pub(super) fn install(&self, outcome: &mut Outcome) -> Result<PathBuf> {
        let (Some(member), Some(installation)) = (&self.member, &self.plan.installation) else {
            return self.install_alone(outcome);
        };
        let key = install::shape(installation, self.plan.build.virtual_size, &member.name)?;
        let on_wait = || self.note_wait("the disk");
        let made =
            member.shared.disk(&key, on_wait, || self.install_for_all(member, &key, outcome))?;
        let raw = made.value;
        if !made.is_new {
            self.share_installed(&raw)?;
        }
        Ok(raw)
    }

    /// Returns the disk that an earlier process of the build installed, or installs it.
    fn install_for_all(
        &self,
        member: &Member,
        shape: &str,
        outcome: &mut Outcome,
    ) -> Result<PathBuf> {
        let used = self.installed_inputs();
        let before = member.shared.installed_before(shape).and_then(|facts| {
            let raw = self.disk_of(facts)?;
            (*facts == disk_facts(&raw, &used)).then(|| (raw, facts.clone()))
        });
        if let Some((raw, facts)) = &before
            && let Some(directory) = raw.parent()
        {
            let claim = Claim::keep(directory, &self.plan.build.run_id)?;
            // Until then another build could empty the directory.
            if disk_facts(raw, &used) == *facts {
                self.hold(claim);
                self.share_installed(raw)?;
                return Ok(raw.clone());
            }
        }
        let raw = self.install_alone(outcome)?;
        member.shared.has_installed(shape, disk_facts(&raw, &used))?;
        Ok(raw)
    }

    /// Records the disk that another target of the build installed as this target's.
    fn share_installed(&self, raw: &Path) -> Result<()> {
        let used = self.installed_inputs();
        if self.is_installed(raw, &used) {
            return Ok(());
        }
        if self.was_reached(State::Registered) {
            return Err(another_disk(raw));
        }
        self.reporter.note(&format!("  install  done by another target: {}", raw.display()));
        self.end_silently(State::Installed.step(), disk_facts(raw, &used))
    }

    /// Returns the disk that an earlier process of the run recorded: another target of the build may have installed it.
    pub(super) fn recorded_disk(&self) -> Option<PathBuf> {
        self.disk_of(&self.host.step_done(State::Installed.step())?)
    }

    /// Returns the disk that facts name, if it exists below the directory of all builds' files.
    fn disk_of(&self, facts: &Value) -> Option<PathBuf> {
        let raw = PathBuf::from(facts.get(DISK)?.as_str()?);
        (is_below(&raw, &self.plan.base) && raw.is_file()).then_some(raw)
    }

    fn install_alone(&self, outcome: &mut Outcome) -> Result<PathBuf> {
        let (Some(installation), Some(qemu)) = (&self.plan.installation, &self.qemu) else {
            return Err(Error::new(Stage::Bug, "an installation was started without an ISO"));
        };
        let used = self.installed_inputs();
        let recorded = self.recorded_disk().filter(|raw| self.is_installed(raw, &used));
        if let Some((raw, directory)) = recorded.as_ref().and_then(|raw| Some((raw, raw.parent()?)))
        {
            let claim = Claim::keep(directory, &self.plan.build.run_id)?;
            // Until then another build could empty the directory.
            if self.is_installed(raw, &used) {
                self.hold(claim);
                self.reporter.note(&format!("  install  done before: {}", raw.display()));
                return Ok(raw.clone());
            }
        }
        let (raw, directory) = (self.plan.raw_disk(), &self.plan.artifacts);
        if self.was_reached(State::Registered) {
            return Err(another_disk(&raw));
        }
        if let Some(member) = &self.member {
            member.shared.installs_in(directory)?;
        }
        let (installation, _fetched) = &self.with_files(installation)?;
        let inputs = if self.plan.keep { Some(self.inputs(installation)?) } else { None };
        if let Some(inputs) = &inputs
            && let Some(claim) = self.reusable(directory, &raw, inputs)?
        {
            self.hold(claim);
            self.write_down(|records| records.started(&outcome.start_time));
            let text = format!("  install  the same was installed before: {}", raw.display());
            self.reporter.note(&text);
            self.end_silently(State::Installed.step(), disk_facts(&raw, &used))?;
            return Ok(raw);
        }
        self.hold(self.take_artifacts(directory)?);
        self.write_down(|records| records.started(&outcome.start_time));
        self.run_installer(installation, qemu, &raw)?;
        if self.installed_inputs() != used {
            let text = "an ISO or a file for the image changed while the disk was installed";
            return Err(
                Error::new(Stage::Source, text).hint("build again when nothing writes to them")
            );
        }
        let facts = disk_facts(&raw, &used);
        self.end(State::Installed.step(), "disk installed", facts, outcome)?;
        self.write_down(|records| records.installed(&raw));
        if let Some(inputs) = inputs {
            InstallFingerprint::of(inputs, &raw, &|| self.check_cancelled())?.write(directory)?;
        }
        Ok(raw)
    }

    /// Runs the guest until the disk is installed and synced.
    fn run_installer(&self, installation: &Installation, qemu: &Qemu, raw: &Path) -> Result<()> {
        let directory = &self.plan.artifacts;
        let accel = install::choose_accel(&installation.machine.accel, qemu)?;
        self.warn_of_emulation(installation, &accel);
        let system = &installation.document().system;
        let text = format!("installing {} in qemu ({})", system.name(), accel.accel);
        self.begin(State::Installed.step(), &text)?;
        let work = tempfile::Builder::new()
            .prefix("tmp.")
            .tempdir_in(directory)
            .map_err(|error| cannot("create a directory in", directory, &error))?;
        let context = InstallContext {
            installation,
            disk: raw,
            size: self.plan.build.virtual_size,
            work: work.path(),
            logs: directory,
            qemu,
            accel: &accel,
            reporter: &self.reporter,
            interrupt: &self.interrupt,
        };
        context.install()?;
        sync(raw)
    }

    fn warn_of_emulation(&self, installation: &Installation, accel: &Verdict) {
        if accel.accel == Accel::Tcg && installation.machine.accel == "auto" {
            let text = format!(
                "installing without hardware acceleration, which is slow: {}",
                accel.reason
            );
            let again = accel.remembered.map(|_| "build-image doctor --refresh tries kvm again");
            self.reporter.warning(&text, again);
        }
    }

    /// Returns the installation with the files that are downloaded for it, and the directory that contains them:
    /// below the run's directory, so that they are removed with it.
    fn with_files(&self, installation: &Installation) -> Result<(Installation, TempDir)> {
        let run = &self.plan.run;
        let directory = tempfile::tempdir_in(run)
            .map_err(|error| cannot("create a directory in", run, &error))?;
        let mut installation = installation.clone();
        let (files, options) = (&mut installation.files, self.plan.downloads);
        source::fetch_injected(files, directory.path(), options, &self.reporter, &self.interrupt)?;
        Ok((installation, directory))
    }

    fn inputs(&self, installation: &Installation) -> Result<String> {
        let size = self.plan.build.virtual_size;
        InstallFingerprint::inputs(installation, size, &|| self.check_cancelled())
    }

    /// Returns whether an earlier process of this run installed the disk from the same files, and the disk has not
    /// changed since.
    fn is_installed(&self, raw: &Path, used: &Value) -> bool {
        let facts = self.host.step_done(State::Installed.step());
        facts.is_some_and(|facts| !facts.is_null() && facts == disk_facts(raw, used))
    }
}

/// Returns the error of a run whose image was made from another disk.
fn another_disk(raw: &Path) -> Error {
    let text = format!("`{}` is not the disk that the image was made from", raw.display());
    Error::new(Stage::Source, text).hint("leave PROVENANCE_FILE out, or build again")
}

/// Syncs the disk. qemu does not, and a disk that the journal records as installed must survive a power cut.
fn sync(raw: &Path) -> Result<()> {
    let synced = File::open(raw).and_then(|disk| disk.sync_all());
    synced.map_err(|error| cannot("sync", raw, &error))
}

/// Returns the identity of the disk's file, its last change and its inputs; null when it does not exist.
fn disk_facts(raw: &Path, used: &Value) -> Value {
    let Ok(metadata) = raw.metadata() else { return Value::Null };
    json!({
        DISK: raw,
        "inode": metadata.ino(),
        "length": metadata.len(),
        "modified": [metadata.mtime(), metadata.mtime_nsec()],
        INPUTS: used,
    })
}
