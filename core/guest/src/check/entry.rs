//! Checks the default boot entries: their files, the root device, and the console.

use super::device::{Device, judge, may_be_hidden};
use super::has_unread;
use crate::finding::{Finding, Severity};
use crate::inspect::root_argument;
use crate::model::{BootEntry, Inspection};
use crate::requirements::Requirements;

const INITRAMFS: &str = "create the initramfs again with `update-initramfs -u` or `dracut --force`";

pub(super) fn check(found: &Inspection, needs: &Requirements, findings: &mut Vec<Finding>) {
    let mut any = false;
    for entry in found.entries.iter().filter(|entry| entry.is_default) {
        any = true;
        files(entry, findings);
        root(found, needs, entry, findings);
        if let Some(console) = &needs.console {
            consoles(entry, console, findings);
        }
    }
    if !any && !found.loaders.is_empty() && !has_unread(found) && found.system.is_some() {
        let message = "no boot loader has an entry that starts the system".to_owned();
        let remedy =
            "create its configuration, for instance with `update-grub` or `grub2-mkconfig`";
        let mut finding = Finding::error("no-boot-entry", message, remedy);
        for loader in &found.loaders {
            finding = finding.at(&loader.evidence);
        }
        findings.push(finding);
    }
}

fn files(entry: &BootEntry, findings: &mut Vec<Finding>) {
    let missing = |file: &crate::model::Located| file.volume.is_none() && !file.may_be_elsewhere;
    if missing(&entry.kernel) {
        let message = format!(
            "the boot entry `{}` names a kernel that does not exist: {}",
            entry.title, entry.kernel.path
        );
        let remedy = "install the kernel, or run `update-grub` (or `grub2-mkconfig`) in the system";
        findings.push(Finding::error("kernel-missing", message, remedy).at(&entry.evidence));
    }
    for initramfs in &entry.initramfs {
        let path = &initramfs.file.path;
        if missing(&initramfs.file) {
            let message = format!(
                "the boot entry `{}` names an initramfs that does not exist: {path}",
                entry.title
            );
            findings
                .push(Finding::error("initramfs-missing", message, INITRAMFS).at(&entry.evidence));
        }
        let Some(content) = &initramfs.content else { continue };
        let place = initramfs.file.volume.clone().unwrap_or_default();
        let file = crate::model::Evidence::of(&place, path);
        if let Some(damage) = &content.damage {
            let message = format!("the initramfs {path} cannot be unpacked: {damage}");
            findings.push(Finding::error("initramfs-damaged", message, INITRAMFS).at(&file));
        }
        if let Some(reason) = &content.not_inspected {
            let message = format!("the initramfs {path} was not inspected: {reason}");
            let remedy = "boot the image before you use it";
            findings.push(Finding::note("not-inspected", message, remedy).at(&file));
        }
        let version = entry.version.as_ref().filter(|_| content.damage.is_none());
        if let Some(version) = version
            .filter(|version| !content.modules.is_empty() && !content.versions.contains(version))
        {
            let message = format!(
                "the initramfs {path} has modules for {}, and the kernel is {version}",
                content.versions.join(", ")
            );
            findings.push(
                Finding::error("initramfs-version", message, INITRAMFS)
                    .at(&file)
                    .at(&entry.evidence),
            );
        }
    }
}

/// Prefixes of devices, and the drivers that create them.
const DEVICES: [(&str, &[&str]); 4] = [
    ("/dev/vd", &["virtio_blk"]),
    ("/dev/nvme", &["nvme"]),
    ("/dev/xvd", &["xen_blkfront"]),
    ("/dev/sd", &["virtio_scsi", "hv_storvsc", "vmw_pvscsi", "ahci", "mptspi"]),
];

/// Returns whether some machines of the target have a device of this name; unknown machines may.
fn fits(device: &str, needs: &Requirements) -> bool {
    let row = DEVICES.iter().find(|(prefix, _)| device.starts_with(prefix));
    let drivers = row.map(|(_, drivers)| *drivers).unwrap_or_default();
    let mut wanted = needs.disks.iter().flat_map(|need| &need.one_of);
    needs.disks.is_empty() || wanted.any(|name| drivers.contains(&name.as_str()))
}

fn root(found: &Inspection, needs: &Requirements, entry: &BootEntry, findings: &mut Vec<Finding>) {
    let remedy = "name it by UUID=, LABEL=, or PARTUUID= in the configuration of the boot loader";
    let Some(device) = root_argument(&entry.arguments) else {
        // systemd and dracut can find a root by the type of its partition; an image of a live system needs none.
        let by_type = found.scheme == "GPT" && entry.loader != "SYSLINUX" && entry.loader != "GRUB";
        let live = ["boot=live", "rd.live", "ostree=", "systemd.volatile", "bootc"];
        if !by_type && !live.iter().any(|word| entry.arguments.contains(word)) {
            let message = format!("the boot entry `{}` names no root device", entry.title);
            findings
                .push(Finding::error("no-root-device", message, remedy).at(&entry.arguments_at));
        }
        return;
    };
    match judge(device, found) {
        Device::Stable(_) | Device::Other => {}
        Device::Unstable => {
            let message = format!("the root device {device} has another name on other machines");
            let severity = if fits(device, needs) { Severity::Warning } else { Severity::Error };
            let finding = Finding::new("root-device-unstable", severity, message, remedy);
            findings.push(finding.at(&entry.arguments_at));
        }
        Device::Unknown if may_be_hidden(found) => {}
        Device::Unknown => {
            let message = format!("the root device {device} is not on the disk");
            findings.push(
                Finding::error("root-device-unknown", message, remedy).at(&entry.arguments_at),
            );
        }
    }
}

fn consoles(entry: &BootEntry, console: &str, findings: &mut Vec<Finding>) {
    let mut named =
        entry.arguments.split_whitespace().filter_map(|word| word.strip_prefix("console="));
    if !named.any(|name| name.split(',').next() == Some(console)) {
        let message = format!(
            "the boot entry `{}` writes nothing to the console {console}, which the target records",
            entry.title
        );
        let remedy = format!("add `console=tty0 console={console}` to the arguments of the kernel");
        findings.push(Finding::warning("no-console", message, &remedy).at(&entry.arguments_at));
    }
}
