//! Judges names of devices.

use crate::model::{Inspection, VolumeFacts};

/// What a name of a device says.
pub(super) enum Device<'a> {
    /// It leads to this volume on every machine.
    Stable(&'a VolumeFacts),
    /// It is the same on every machine, but the disk has no such volume.
    Unknown,
    /// The name depends on the machine: `/dev/sda1`.
    Unstable,
    /// It names something else: a network file system, a pseudo device.
    Other,
}

/// Prefixes of names that the disk decides.
const STABLE: [&str; 6] = [
    "UUID=",
    "LABEL=",
    "PARTUUID=",
    "/dev/disk/by-uuid/",
    "/dev/disk/by-label/",
    "/dev/disk/by-partuuid/",
];
/// Prefixes of names that the machine decides.
const UNSTABLE: [&str; 11] = [
    "/dev/sd",
    "/dev/hd",
    "/dev/vd",
    "/dev/xvd",
    "/dev/nvme",
    "/dev/mmcblk",
    "/dev/disk/by-path/",
    "/dev/disk/by-id/",
    "/dev/dasd",
    "/dev/ubd",
    "/dev/disk/by-diskseq/",
];

/// Judges a name.
pub(super) fn judge<'a>(name: &str, found: &'a Inspection) -> Device<'a> {
    if let Some(volume) = crate::system::find_volume(name, &found.volumes) {
        return Device::Stable(volume);
    }
    if UNSTABLE.iter().any(|prefix| name.starts_with(prefix)) {
        return Device::Unstable;
    }
    let is_stable = STABLE.iter().any(|prefix| name.starts_with(prefix));
    // Volumes of a volume group that is on this disk.
    let group = name.strip_prefix("/dev/").and_then(|rest| rest.split_once('/'));
    let is_ours = group.is_some_and(|(group, _)| {
        let prefix = format!("/dev/{group}/");
        group != "disk"
            && found
                .volumes
                .iter()
                .flat_map(|volume| &volume.aliases)
                .any(|alias| alias.starts_with(&prefix))
    });
    if is_stable || is_ours { Device::Unknown } else { Device::Other }
}

/// Returns whether a volume that was not recognised could have the name: something encrypted, or an array.
pub(super) fn may_be_hidden(found: &Inspection) -> bool {
    let hides = ["LUKS", "LVM2", "RAID", "ZFS", "BitLocker"];
    !found.complete
        || found.volumes.iter().any(|volume| {
            hides.contains(&volume.content.as_str()) && volume.not_inspected.is_some()
                || volume.len == 0
        })
}
