//! Describes this provider. Sources: names
//! <https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules>, tags
//! <https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources>, disks (fixed, whole MiB)
//! <https://learn.microsoft.com/azure/virtual-machines/linux/create-upload-generic>.

use build_image_plugin_api::{
    Archive, Description, DiskFormat, DiskNeeds, DiskSpec, DiskVariant, GuestNeeds, NameRules,
    Status, TagRules,
};

/// Largest disk, in bytes: 127 GiB.
const MAXIMUM: u64 = 127 << 30;

/// The rule for names as a text.
const EXPLANATION: &str = "1 to 80 letters, digits, `.`, `-` and `_`, \
    a letter or digit first, no `.` or `-` last";

pub(crate) fn description() -> Description {
    let image = DiskSpec::new(DiskFormat::Vhd).variant(DiskVariant::Fixed);
    Description::new("azure", env!("CARGO_PKG_VERSION"))
        .summary("Microsoft Azure: makes the disk and a script that uploads and registers it")
        .status(Status::DiskOnly)
        .license("Apache-2.0 OR MIT")
        .settings(crate::settings::settings())
        .disk(
            DiskNeeds::new(image.clone())
                .package(image.archive(Archive::TarGz).suffix("vhd.tar.gz"))
                .maximum_bytes(MAXIMUM)
                .multiple_of_bytes(512),
        )
        .guest(
            GuestNeeds::default()
                .hypervisor("azure")
                .minimum_version([("BIG-IP", "14.1.0")])
                .volumes(["waagent"]),
        )
        .image_name(
            NameRules::default()
                .minimum_length(1)
                .maximum_length(80)
                .pattern(r"[a-zA-Z0-9]([a-zA-Z0-9\-._]{0,78}[a-zA-Z0-9_])?")
                .explanation(EXPLANATION)
                .replace(r"[^a-zA-Z0-9\-._]"),
        )
        .tags(
            TagRules::default()
                .maximum(50)
                .key_length(512)
                .value_length(256)
                .forbidden_key_prefixes(["microsoft", "azure", "windows"])
                .keys_ignore_case(true),
        )
        .uploads(true)
}
