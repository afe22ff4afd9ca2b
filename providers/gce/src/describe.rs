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
    Description {
        name: "gce".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        summary: "Google Compute Engine: makes the disk and a script that uploads and registers it"
            .to_owned(),
        status: Status::Stub,
        license: "Apache-2.0 OR MIT".to_owned(),
        settings: crate::settings::settings(),
        disk: DiskNeeds {
            spec: DiskSpec { format: DiskFormat::Raw, ..DiskSpec::default() },
            package: Some(DiskSpec {
                format: DiskFormat::Raw,
                archive: Archive::TarGz,
                member: MEMBER.to_owned(),
                ..DiskSpec::default()
            }),
            multiple_of_bytes: Some(GIB),
            ..DiskNeeds::default()
        },
        guest: GuestNeeds {
            hypervisor: Some("gce".to_owned()),
            minimum_version: [("BIG-IP".to_owned(), "14.1.0".to_owned())].into(),
            skip_boot_fixup: true,
            ..GuestNeeds::default()
        },
        image_name: Some(NameRules {
            minimum_length: 1,
            maximum_length: 63,
            pattern: "[a-z]([-a-z0-9]{0,61}[a-z0-9])?".to_owned(),
            explanation: "1 to 63 lower-case letters, digits and `-`, a letter first, no `-` last"
                .to_owned(),
            replace: "[^a-z0-9-]".to_owned(),
            letter_case: LetterCase::Lower,
            ..NameRules::default()
        }),
        tags: Some(TagRules {
            maximum: 64,
            key_length: 63,
            value_length: 63,
            ..TagRules::default()
        }),
        uploads: true,
        ..Description::default()
    }
}
