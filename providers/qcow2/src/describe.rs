//! Who this provider is.

use build_image_plugin_api::{Description, DiskFormat, DiskNeeds, DiskSpec};

pub(crate) fn description() -> Description {
    Description {
        name: "qcow2".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        summary: "a qcow2 file in IMAGE_DIR, for KVM and QEMU".to_owned(),
        license: "Apache-2.0 OR MIT".to_owned(),
        disk: DiskNeeds {
            spec: DiskSpec { format: DiskFormat::Qcow2, ..DiskSpec::default() },
            multiple_of_bytes: Some(512),
            ..DiskNeeds::default()
        },
        ..Description::default()
    }
}
