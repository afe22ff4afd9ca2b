//! Disks with one planted fault each: every fault is reported, and nothing but the fault.

mod boot;
mod system;

use super::disk::Disk;
use super::systems::needs;
use crate::model::Firmware;
use boot::{DRIVERS, LOADERS};
use system::{DEVICES, MACHINE_DATA};

/// A fault: its name, the healthy disk, the firmware of the machines, what is changed, and the findings.
struct Fault {
    name: &'static str,
    system: fn() -> Disk,
    firmware: Firmware,
    plant: fn(&mut Disk),
    want: &'static [&'static str],
}

const fn fault(
    name: &'static str,
    system: fn() -> Disk,
    firmware: Firmware,
    plant: fn(&mut Disk),
    want: &'static [&'static str],
) -> Fault {
    Fault { name, system, firmware, plant, want }
}

const INITRD: &str = "/boot/initrd.img-6.1.0-18-amd64";
const CONFIG: &str = "/boot/grub/grub.cfg";
const OTHER: &str = "deadbeef-dead-4bee-8fde-adbeefdeadbe";

/// Replaces text in the configuration of GRUB on a BIOS disk.
pub(in crate::tests) fn config(disk: &mut Disk, from: &str, to: &str) {
    disk.edit(0, CONFIG, |text| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
}

pub(in crate::tests) fn fstab(disk: &mut Disk, line: &str) {
    disk.edit(0, "/etc/fstab", |text| text + line + "\n");
}

fn judge(faults: &[Fault]) {
    for fault in faults {
        let mut disk = (fault.system)();
        (fault.plant)(&mut disk);
        let Some(disk) = disk.write() else { return };
        let findings = disk.check(&needs(fault.firmware));
        let mut found: Vec<&str> = findings.iter().map(|finding| finding.id.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, fault.want, "{}: {findings:#?}", fault.name);
        for finding in &findings {
            assert!(
                !finding.evidence.is_empty() && !finding.remedy.is_empty(),
                "{}: {finding:#?}",
                fault.name
            );
            let quoted = finding.evidence.iter().map(|evidence| evidence.text.as_str());
            let all: String = quoted.chain([finding.message.as_str()]).collect();
            assert!(!all.contains("S3CRET"), "{}: {all}", fault.name);
        }
    }
}

#[test]
fn a_missing_driver_or_initramfs_is_reported() {
    judge(&DRIVERS);
}

#[test]
fn a_boot_loader_that_cannot_start_is_reported() {
    judge(&LOADERS);
}

#[test]
fn a_device_that_does_not_exist_or_has_other_names_is_reported() {
    judge(&DEVICES);
}

#[test]
fn what_every_machine_would_share_is_reported() {
    judge(&MACHINE_DATA);
}
