//! Compares an inspection with what the machines of a target need.
//!
//! ```text
//! firmware.rs   partitioning scheme, architecture, boot loader for the firmware, Secure Boot
//! entry.rs      files of boot entries, root device, console       drivers.rs   drivers and file systems
//! fstab.rs      devices of fstab                                  machine.rs   network, agents, machine-specific data
//! device.rs     names of devices that are the same on every machine
//! ```
//!
//! A check reports only what it can see: if files that decide were not read, its finding is `not-inspected`.

mod device;
mod drivers;
mod entry;
mod firmware;
mod fstab;
mod machine;

pub(crate) use drivers::Early;

use crate::finding::{Finding, Severity};
use crate::model::Inspection;
use crate::requirements::Requirements;

/// Checks that report what is missing: an inspection that ended early cannot know it.
const ABSENCES: [&str; 12] = [
    "boot-search",
    "initramfs-missing",
    "kernel-missing",
    "network-driver-missing",
    "no-agent",
    "no-bios-loader",
    "no-boot-entry",
    "no-esp",
    "no-fallback-loader",
    "no-network",
    "no-uefi-loader",
    "partition-table",
];

/// Returns the findings, the most severe first.
pub fn check(found: &Inspection, needs: &Requirements) -> Vec<Finding> {
    let mut findings = Vec::new();
    not_inspected(found, &mut findings);
    firmware::check(found, needs, &mut findings);
    entry::check(found, needs, &mut findings);
    drivers::check(found, needs, &mut findings);
    fstab::check(found, &mut findings);
    machine::check(found, needs, &mut findings);
    findings.retain(|finding| found.complete || !ABSENCES.contains(&finding.id.as_str()));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn not_inspected(found: &Inspection, findings: &mut Vec<Finding>) {
    for volume in &found.volumes {
        if let Some(reason) = &volume.not_inspected {
            let damaged = reason.contains("cannot be read");
            let severity = if damaged { Severity::Warning } else { Severity::Note };
            let message = format!("{} was not inspected: {reason}", volume.name);
            let remedy = "boot the image before you use it";
            let evidence = crate::model::Evidence::of(&volume.name, "");
            findings.push(Finding::new("not-inspected", severity, message, remedy).at(&evidence));
        }
    }
    if !found.complete {
        let message = "the inspection reached a limit, and the rest of the disk was not inspected";
        let remedy = "boot the image before you use it";
        findings.push(Finding::warning("not-inspected", message.to_owned(), remedy));
    }
    if found.system.is_none() && !has_unread(found) && found.complete {
        let message = "the disk has no root file system".to_owned();
        findings.push(Finding::warning("no-system", message, "check that it is the intended disk"));
    }
}

/// Returns whether files exist that were not read.
fn has_unread(found: &Inspection) -> bool {
    !found.complete || found.volumes.iter().any(|volume| volume.not_inspected.is_some())
}
