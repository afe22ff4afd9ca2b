//! Describes this provider.

use build_image_plugin_api::{Archive, Description, DiskFormat, DiskNeeds, DiskSpec, DiskVariant};

pub(crate) fn description() -> Description {
    Description::new("qcow2", env!("CARGO_PKG_VERSION"))
        .summary("a qcow2 image in a ZIP file in IMAGE_DIR, for KVM and QEMU")
        .license("Apache-2.0 OR MIT")
        .disk(
            DiskNeeds::new(DiskSpec::new(DiskFormat::Qcow2)) // Version 2 of the format, which every QEMU reads.
                .package(
                    DiskSpec::new(DiskFormat::Qcow2).variant(DiskVariant::V2).archive(Archive::Zip),
                )
                .multiple_of_bytes(512),
        )
}
