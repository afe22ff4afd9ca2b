//! Reads fstab(5).

use crate::model::{FstabEntry, VolumeFacts};
use crate::tree::Text;

/// Maximum number of entries.
const MAX_ENTRIES: usize = 500;
/// Maximum number of options of an entry.
const MAX_OPTIONS: usize = 64;
/// Types that need no device.
const PSEUDO: [&str; 10] = [
    "tmpfs", "proc", "sysfs", "devpts", "devtmpfs", "none", "cgroup", "cgroup2", "overlay",
    "efivarfs",
];

/// Returns the entries with the volumes that their devices lead to.
pub(crate) fn entries(text: &Text, volumes: &[VolumeFacts]) -> Vec<FstabEntry> {
    let lines = text.settings().take(MAX_ENTRIES);
    lines.filter_map(|(number, line)| entry(text, number, line, volumes)).collect()
}

fn entry(text: &Text, number: u32, line: &str, volumes: &[VolumeFacts]) -> Option<FstabEntry> {
    let mut fields = line.split_whitespace().map(unescaped);
    let (device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
    let options = fields.next().unwrap_or_default();
    let device = device.replace(['"', '\''], "");
    let volume = find(&device, volumes).map(|volume| volume.name.clone());
    Some(FstabEntry {
        device,
        point,
        kind,
        options: options.split(',').take(MAX_OPTIONS).map(str::to_owned).collect(),
        volume,
        evidence: text.evidence(number, line),
    })
}

/// White space in a field is written in octal.
fn unescaped(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

/// Returns the volume that a device leads to; UUIDs are compared without regard to case.
pub(crate) fn find<'a>(device: &str, volumes: &'a [VolumeFacts]) -> Option<&'a VolumeFacts> {
    volumes.iter().find(|volume| {
        volume.aliases.iter().any(|alias| {
            if alias.starts_with("LABEL=") || alias.starts_with("/dev/mapper/") {
                alias == device
            } else {
                alias.eq_ignore_ascii_case(device)
            }
        })
    })
}

/// Returns whether an entry names no block device of this machine.
pub(crate) fn is_remote(entry: &FstabEntry) -> bool {
    PSEUDO.contains(&entry.kind.as_str())
        || entry.kind.starts_with("nfs")
        || entry.kind.starts_with("fuse")
        || ["cifs", "9p", "virtiofs", "ceph", "glusterfs"].contains(&entry.kind.as_str())
        || entry
            .options
            .iter()
            .any(|option| option == "bind" || option == "rbind" || option == "loop")
}
