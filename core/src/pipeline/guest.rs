//! Inspects the disk before the image is sent: what is on it is compared with what the provider's machines need, and
//! passed to the provider's steps as [`GuestFacts`](build_image_plugin_api::document::GuestFacts).

use std::sync::Arc;

use build_image_disk::{format::GuestReader, installer::Installer};
use build_image_guest::{
    Attributes, DriverNeed, Finding, Inspection, Limits, Requirements, Severity,
    model::{Firmware, VolumeFacts},
    sbom::Packages,
};
use build_image_plugin_api::{
    BootMode, Description, Error as ProviderError, ErrorKind, MachineNeeds,
    document::{self, CheckReport},
};
use serde_json::{Value, json};

use super::{Pipeline, sbom, shared::source_key, state::State};
use crate::{
    error::{Error, Problem, Result, Stage},
    interrupt::Interrupt,
    journal::Entry,
    plan::guest_facts,
    report::{GuestEntry, Outcome},
    settings::{GuestCheck, Resolved, keys},
    source::from_disk,
};

/// Findings about the set-up of the network, which some installed systems do by programs that are not known here.
const NETWORK: [&str; 2] = ["no-agent", "no-network"];
/// The subject of findings, and the member of a step's facts that has what was found.
pub(crate) const SUBJECT: &str = "guest";

impl Pipeline<'_> {
    /// Inspects the disk, unless GUEST_CHECK is `off`, and lists its packages if SBOM is set. The provider's later steps receive what was found; those of a
    /// resumed run receive what the earlier process found, since the image was made with it.
    ///
    /// # Errors
    /// When the disk cannot be read, or its packages are requested and not known.
    fn inspect_guest(&mut self, disk: &GuestReader) -> Result<Option<Inspection>> {
        let core = self.settings.core();
        let is_off = core.run.guest_check == GuestCheck::Off;
        if is_off && core.publication.sbom.is_none() {
            return Ok(None);
        }
        let wants_packages = core.publication.sbom.is_some();
        let inspected = match &self.member {
            Some(member) => {
                let key = disk_key(disk, self.settings, wants_packages);
                let make = || inspect(disk, wants_packages, &self.interrupt).map(Arc::new);
                member.shared.found(&key, make)?
            }
            None => Arc::new(inspect(disk, wants_packages, &self.interrupt)?),
        };
        let (found, packages) = &*inspected;
        if let Some(format) = core.publication.sbom {
            let name = self.plan.build.image_name.as_str();
            let written = sbom::text(found, packages, format, ("the disk", name));
            self.bill = Some(written.map_err(|error| {
                error.hint(format!(
                    "leave {} out, or list them in a machine that was started from the image",
                    keys::SBOM
                ))
            })?);
        }
        if is_off {
            return Ok(None);
        }
        if !self.was_reached(State::Converted) {
            self.plan.build.guest = guest_facts(&Attributes::of(found));
        }
        Ok(Some(found.clone()))
    }

    /// Inspects the disk that the user gave, if there is one and GUEST_CHECK is not `off`.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub(crate) fn inspect_given(&mut self) -> Result<Option<Inspection>> {
        let disk = self.plan.disk.as_ref().map(|disk| disk.reader.clone());
        disk.map_or(Ok(None), |disk| self.inspect_guest(&disk))
    }

    /// Inspects the disk that the user gave, or the installed disk, and records what was found for a process that
    /// resumes the run.
    ///
    /// # Errors
    /// When the disk cannot be read, or the journal cannot be written.
    pub(super) fn examine(
        &mut self,
        installed: Option<&GuestReader>,
    ) -> Result<Option<Inspection>> {
        let before = self.plan.build.guest.clone();
        let found = match installed {
            Some(disk) => self.inspect_guest(disk)?,
            None => self.inspect_given()?,
        };
        self.stage_bill()?;
        if self.plan.build.guest != before {
            self.host.record(Entry::InputsKnown {
                build: Box::new(self.plan.build.clone()),
                artifacts: self.plan.kept_artifacts(),
            })?;
        }
        Ok(found)
    }

    /// Adds what was found to the facts of a step, for a process that resumes the run. A disk may hold anything, also
    /// secrets of this build, which the journal must not have.
    pub(super) fn with_guest(&self, mut facts: Value, outcome: &Outcome) -> Value {
        if let Some(guest) = &outcome.guest {
            facts[SUBJECT] = self.host.redactor().value(json!(guest));
        }
        facts
    }

    /// Returns what an earlier process of the run found, if this one does not inspect the disk itself.
    pub(super) fn found_before(&self) -> Option<GuestEntry> {
        if self.is_due(State::Checked.row()) {
            return None;
        }
        let found = [State::Converted, State::Checked].into_iter().find_map(|state| {
            let facts = self.host.step_done(state.step())?;
            facts.get(SUBJECT).cloned()
        })?;
        serde_json::from_value(found).ok()
    }

    /// Compares what was found on the disk with what the provider's machines need.
    pub(crate) fn judged(&self, found: &Inspection, report: &CheckReport) -> GuestEntry {
        judge(found, machines(report, self.plugin.description()))
    }

    /// Reports what does not fit the provider's machines. Each finding that is more than a
    /// note is a warning.
    ///
    /// # Errors
    /// With GUEST_CHECK=require when the image cannot work on the provider's machines.
    pub(super) fn judge_guest(
        &self,
        found: &Inspection,
        report: &CheckReport,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let mode = self.settings.core().run.guest_check;
        let mut entry = self.judged(found, report);
        let installer = self.plan.installation.as_ref().map(|installation| installation.installer);
        if installer.is_some_and(Installer::configures_network) {
            entry.findings.retain(|finding| !NETWORK.contains(&finding.id.as_str()));
        }
        if let Some(text) = described(&entry.attributes) {
            self.reporter.note(&format!("    guest  {text}"));
        }
        let is_refused =
            |finding: &&Finding| mode == GuestCheck::Require && finding.severity == Severity::Error;
        for finding in entry.findings.iter().filter(|finding| !is_refused(finding)) {
            if finding.severity == Severity::Note {
                tracing::info!("{}", text(finding));
            } else {
                self.reporter.warning(&text(finding), Some(&finding.remedy));
            }
        }
        let problems: Vec<Problem> =
            entry.findings.iter().filter(is_refused).map(problem).collect();
        outcome.guest = Some(entry);
        if problems.is_empty() {
            return Ok(());
        }
        let (count, plural) = (problems.len(), if problems.len() == 1 { "" } else { "s" });
        let text = format!(
            "the disk does not work on machines of `{}`: {count} problem{plural}",
            self.plan.platform
        );
        let stage = Stage::Provider(ErrorKind::InvalidImage);
        let hint = format!("{}=warn builds the image all the same", keys::GUEST_CHECK);
        Err(Error::several(stage, text, problems).hint(hint))
    }
}

/// Returns what the machines need with the settings of the build, if anything is known of them.
fn machines<'a>(report: &'a CheckReport, description: &'a Description) -> Option<&'a MachineNeeds> {
    let needs = report.machines.as_ref().or(description.guest.machines.as_ref());
    needs.filter(|needs| **needs != MachineNeeds::default())
}

/// Returns the key of an inspection: targets with the same key share it.
fn disk_key(disk: &GuestReader, settings: &Resolved, packages: bool) -> String {
    let files = disk.sources().map(|(path, stamp)| format!("{} {stamp}\n", path.display()));
    let size = disk.virtual_size();
    format!("{}{}{size} {packages}", files.collect::<String>(), source_key(settings))
}

/// Inspects a disk.
///
/// # Errors
/// When the disk cannot be read, or with [`Stage::Interrupted`].
fn inspect(
    disk: &GuestReader,
    packages: bool,
    interrupt: &Arc<Interrupt>,
) -> Result<(Inspection, Packages)> {
    let watched = Arc::clone(interrupt);
    let limits = Limits { cancelled: Arc::new(move || watched.is_set()), ..Limits::default() };
    let inspected = if packages {
        build_image_guest::inspect_with_packages(disk, limits)
    } else {
        build_image_guest::inspect(disk, limits).map(|found| (found, Packages::default()))
    };
    interrupt.check()?;
    inspected.map_err(|error| from_disk(Stage::Source, error))
}

/// Compares what was found on a disk with what machines need.
fn judge(found: &Inspection, machines: Option<&MachineNeeds>) -> GuestEntry {
    let findings = match nothing_found(found, machines.is_some()) {
        Some(finding) => vec![finding],
        None => build_image_guest::check(found, &requirements(machines)),
    };
    GuestEntry { attributes: Attributes::of(found), findings }
}

/// Returns the finding of a disk with neither a system nor a boot loader: all others would follow from it.
fn nothing_found(found: &Inspection, has_machines: bool) -> Option<Finding> {
    let is_unread = |volume: &VolumeFacts| volume.not_inspected.is_some();
    if !found.complete
        || found.system.is_some()
        || !found.loaders.is_empty()
        || found.volumes.iter().any(is_unread)
    {
        return None;
    }
    Some(Finding {
        id: "no-system".to_owned(),
        severity: if has_machines { Severity::Error } else { Severity::Warning },
        message: "no system was found on the disk, and no boot loader".to_owned(),
        remedy: format!(
            "check that it is the intended disk; for a disk of data, {}=off omits the inspection",
            keys::GUEST_CHECK
        ),
        evidence: Vec::new(),
    })
}

/// Converts what a provider declares into requirements; without it, only what matters everywhere is checked.
fn requirements(machines: Option<&MachineNeeds>) -> Requirements {
    let Some(machines) = machines else { return Requirements::default() };
    let firmware = |mode: &BootMode| match mode {
        BootMode::Bios => Some(Firmware::Bios),
        BootMode::Uefi => Some(Firmware::Uefi),
        _ => None,
    };
    let driver = |need: &build_image_plugin_api::DriverNeed| DriverNeed {
        device: need.device.clone(),
        one_of: need.one_of.clone(),
        severity: if need.optional { Severity::Warning } else { Severity::Error },
    };
    Requirements {
        architectures: machines.architectures.iter().map(ToString::to_string).collect(),
        firmware: machines.firmware.iter().filter_map(firmware).collect(),
        every_firmware: machines.every_firmware,
        schemes: machines.schemes.clone(),
        disks: machines.disks.iter().map(driver).collect(),
        networks: machines.networks.iter().map(driver).collect(),
        console: machines.console.clone(),
        agents: machines.agents.clone(),
        secure_boot: machines.secure_boot,
    }
}

/// Returns the findings as those of a check, for a plan.
pub(crate) fn as_findings(entry: &GuestEntry, mode: GuestCheck) -> Vec<document::Finding> {
    let converted = |finding: &Finding| {
        let message = located(finding);
        match finding.severity {
            Severity::Note => document::Finding::ok(SUBJECT, message),
            Severity::Error if mode == GuestCheck::Require => {
                let error = ProviderError::new(ErrorKind::InvalidImage, message);
                document::Finding::error(SUBJECT, &error.with_hint(finding.remedy.clone()))
            }
            _ => document::Finding::warning(SUBJECT, message, finding.remedy.clone()),
        }
    };
    entry.findings.iter().map(converted).collect()
}

/// Describes the system in a line, if one was found.
pub(crate) fn described(attributes: &Attributes) -> Option<String> {
    let name = attributes.os_name.as_ref().or(attributes.os.as_ref())?;
    let architecture = attributes.architecture.as_deref().unwrap_or("unknown architecture");
    let firmware: Vec<&str> = attributes
        .firmware
        .iter()
        .map(|firmware| match firmware {
            Firmware::Bios => "BIOS",
            Firmware::Uefi => "UEFI",
        })
        .collect();
    let firmware =
        if firmware.is_empty() { "no boot loader found" } else { &firmware.join(" and ") };
    Some(format!("{name}, {architecture}, {firmware}"))
}

fn text(finding: &Finding) -> String {
    format!("{SUBJECT}: {}", located(finding))
}

/// Describes a finding in a line: what, and where.
pub(crate) fn located(finding: &Finding) -> String {
    let Some(first) = finding.evidence.first() else { return finding.message.clone() };
    let line = first.line.map(|line| format!(":{line}")).unwrap_or_default();
    let place = match first.file.as_str() {
        "" => first.volume.clone(),
        file => format!("{} {file}{line}", first.volume),
    };
    let more = match finding.evidence.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    format!("{} ({place}{more})", finding.message)
}

fn problem(finding: &Finding) -> Problem {
    Problem { message: text(finding), hint: Some(finding.remedy.clone()) }
}
