//! Describes this provider.

use build_image_plugin_api::{Archive, Description, DiskFormat, DiskNeeds, DiskSpec};

/// Largest disk of Virtual PC and of Hyper-V's first generation on IDE, in bytes: 127 GiB.
const MAXIMUM: u64 = 127 << 30;

pub(crate) fn description() -> Description {
    let image =
        DiskSpec { format: DiskFormat::Vhd, variant: "dynamic".to_owned(), ..DiskSpec::default() };
    Description {
        name: "vhd".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        summary: "a dynamic VHD in a ZIP file in IMAGE_DIR, for Hyper-V".to_owned(),
        license: "Apache-2.0 OR MIT".to_owned(),
        disk: DiskNeeds {
            // Inside the archive, the host names it after the product: BIGIP-15.0.0-0.0.39.vhd.
            package: Some(DiskSpec { archive: Archive::Zip, ..image.clone() }),
            spec: image,
            maximum_bytes: Some(MAXIMUM),
            multiple_of_bytes: Some(512),
            ..DiskNeeds::default()
        },
        ..Description::default()
    }
}
