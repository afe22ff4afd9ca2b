//! Describes this provider. Sources: disks (a tar file in the old GNU format with `disk.raw`, whole GiB)
//! <https://cloud.google.com/compute/docs/import/import-existing-image>, labels
//! <https://cloud.google.com/compute/docs/labeling-resources>.

use build_image_plugin_api::{
    Archive, Description, DiskFormat, DiskNeeds, DiskSpec, GuestNeeds, LetterCase, NameRules,
    Status, TagRules,
};

/// The only name that Compute Engine accepts for the disk in the archive.
pub(crate) const MEMBER: &str = "disk.raw";
/// Bytes of a GiB.
const GIB: u64 = 1 << 30;

pub(crate) fn description() -> Description {
    Description::new("gce", env!("CARGO_PKG_VERSION"))
        .summary("Google Compute Engine: makes the disk and a script that uploads and registers it")
        .status(Status::DiskOnly)
        .license("Apache-2.0 OR MIT")
        .settings(crate::settings::settings())
        .disk(
            DiskNeeds::new(DiskSpec::new(DiskFormat::Raw))
                .package(DiskSpec::new(DiskFormat::Raw).archive(Archive::TarGz).member(MEMBER))
                .multiple_of_bytes(GIB),
        )
        .guest(
            GuestNeeds::default()
                .hypervisor("gce")
                .minimum_version([("BIG-IP", "14.1.0")])
                .skip_boot_fixup(true),
        )
        .image_name(
            NameRules::default()
                .minimum_length(1)
                .maximum_length(63)
                .pattern("[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
                .explanation(
                    "1 to 63 lower-case letters, digits and `-`, a letter first, no `-` last",
                )
                .replace("[^a-z0-9-]")
                .letter_case(LetterCase::Lower),
        )
        .tags(TagRules::default().maximum(64).key_length(63).value_length(63))
        .uploads(true)
}
