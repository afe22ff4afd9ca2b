//! Describes this provider.

use build_image_plugin_api::{Archive, Description, DiskFormat, DiskNeeds, DiskSpec, DiskVariant};

/// Largest disk of Virtual PC and of Hyper-V's first generation on IDE, in bytes: 127 GiB.
const MAXIMUM: u64 = 127 << 30;

pub(crate) fn description() -> Description {
    let image = DiskSpec::new(DiskFormat::Vhd).variant(DiskVariant::Dynamic);
    Description::new("vhd", env!("CARGO_PKG_VERSION"))
        .summary("a dynamic VHD in a ZIP file in IMAGE_DIR, for Hyper-V")
        .license("Apache-2.0 OR MIT")
        .disk(
            DiskNeeds::new(image.clone()) // Inside the archive, the host names it after the product: BIGIP-15.0.0-0.0.39.vhd.
                .package(image.archive(Archive::Zip))
                .maximum_bytes(MAXIMUM)
                .multiple_of_bytes(512),
        )
}
