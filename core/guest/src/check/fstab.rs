//! Checks the devices of fstab. A device that does not exist stops the start of systemd, except with `nofail`.

use super::device::{Device, judge, may_be_hidden};
use crate::finding::{Finding, Severity};
use crate::model::{FstabEntry, Inspection};
use crate::system;

const REMEDY: &str = "name the device by UUID=, LABEL=, or PARTUUID= in /etc/fstab";

pub(super) fn check(found: &Inspection, findings: &mut Vec<Finding>) {
    let Some(system) = &found.system else { return };
    for entry in system.fstab.iter().filter(|entry| !system::is_remote(entry)) {
        let finding = match judge(&entry.device, found) {
            Device::Unstable => {
                let message = format!(
                    "/etc/fstab names {} for {}, which has another name on other machines",
                    entry.device, entry.point
                );
                Finding::new("fstab-device-unstable", severity(entry), message, REMEDY)
            }
            Device::Unknown if !may_be_hidden(found) => {
                let message = format!(
                    "/etc/fstab names {} for {}, which is not on the disk",
                    entry.device, entry.point
                );
                Finding::new("fstab-device-unknown", severity(entry), message, REMEDY)
            }
            Device::Stable(volume) => {
                findings.extend(kind(entry, &volume.content));
                continue;
            }
            Device::Unknown | Device::Other => continue,
        };
        findings.push(finding.at(&entry.evidence));
    }
}

/// The kernel has mounted the root before fstab is read, and the start does not wait for swap space.
fn severity(entry: &FstabEntry) -> Severity {
    let has = |option: &str| entry.options.iter().any(|other| other == option);
    if has("nofail") || has("noauto") {
        Severity::Note
    } else if entry.point == "/" || entry.kind == "swap" {
        Severity::Warning
    } else {
        Severity::Error
    }
}

/// Returns a finding if the type of an entry is not what the volume holds.
fn kind(entry: &FstabEntry, content: &str) -> Option<Finding> {
    let fits = match entry.kind.as_str() {
        "ext2" | "ext3" | "ext4" => content == "ext4",
        "vfat" | "msdos" => content == "vfat",
        known @ ("xfs" | "btrfs" | "swap") => content == known,
        _ => true,
    };
    if fits || content == "unknown" {
        return None;
    }
    let message = format!(
        "/etc/fstab declares {} as {}, and {} holds {content}",
        entry.point, entry.kind, entry.device
    );
    let finding =
        Finding::new("fstab-type", severity(entry), message, "correct the type in /etc/fstab");
    Some(finding.at(&entry.evidence))
}
