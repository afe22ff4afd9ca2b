//! Names the content of a volume by its signature, and says what is not inspected.

use build_image_disk::signature;

use super::Volume;
use crate::source::Fault;

/// What a volume holds.
pub(crate) struct Content {
    /// The name that `blkid` uses, except for LVM2.
    pub(crate) kind: &'static str,
    pub(crate) uuid: Option<String>,
    pub(crate) label: Option<String>,
    /// Why its files are not read.
    pub(crate) not_inspected: Option<&'static str>,
}

impl Content {
    pub(crate) fn unknown() -> Self {
        Self { kind: "unknown", uuid: None, label: None, not_inspected: None }
    }
}

/// Contents that are recognised and not read.
const NOT_INSPECTED: [(&str, &str); 11] = [
    ("LUKS", "it is encrypted with LUKS"),
    ("BitLocker", "it is encrypted with BitLocker"),
    ("RAID", "it is a member of a RAID"),
    ("xfs", "XFS is not read"),
    ("btrfs", "btrfs is not read"),
    ("ZFS", "ZFS is not read"),
    ("f2fs", "F2FS is not read"),
    ("erofs", "EROFS is not read"),
    ("squashfs", "SquashFS is not read"),
    ("ntfs", "NTFS is not read"),
    ("iso9660", "ISO 9660 is not read"),
];

/// Recognises the content of a volume.
pub(crate) fn recognise(volume: &Volume) -> Result<Content, Fault> {
    let found = signature::recognise(|at, most| volume.head(at, most))?;
    Ok(found.map_or_else(Content::unknown, |content| Content {
        kind: content.kind,
        uuid: content.uuid,
        label: content.label,
        not_inspected: NOT_INSPECTED
            .into_iter()
            .find(|(kind, _)| *kind == content.kind)
            .map(|(_, why)| why),
    }))
}
