//! Describes this provider.

use build_image_plugin_api::{Archive, Description, DiskFormat, DiskNeeds, DiskSpec};

pub(crate) fn description() -> Description {
    Description {
        name: "qcow2".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        summary: "a qcow2 image in a ZIP file in IMAGE_DIR, for KVM and QEMU".to_owned(),
        license: "Apache-2.0 OR MIT".to_owned(),
        disk: DiskNeeds {
            spec: DiskSpec { format: DiskFormat::Qcow2, ..DiskSpec::default() },
            // Version 2 of the format, which every QEMU reads.
            package: Some(DiskSpec {
                format: DiskFormat::Qcow2,
                variant: "v2".to_owned(),
                archive: Archive::Zip,
                ..DiskSpec::default()
            }),
            multiple_of_bytes: Some(512),
            ..DiskNeeds::default()
        },
        ..Description::default()
    }
}
