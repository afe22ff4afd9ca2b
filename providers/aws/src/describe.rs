//! Describes this provider. Names are limited to 64 of the 128 characters that EC2 accepts (API reference,
//! `RegisterImage`), as in the old tool. Tags:
//! <https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html>.

use build_image_plugin_api::{
    Archive, Description, DiskFormat, DiskNeeds, DiskSpec, DiskVariant, GuestNeeds, NameRules, Ovf,
    Status, TagRules,
};

/// Largest disk, in bytes: a volume of type gp2 has at most 16 TiB. Source:
/// <https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html>.
const MAXIMUM: u64 = 16 << 40;

pub(crate) fn description() -> Description {
    let image = DiskSpec::new(DiskFormat::Vmdk).variant(DiskVariant::StreamOptimized);
    Description::new("aws", env!("CARGO_PKG_VERSION"))
        .summary("Amazon EC2: makes the disk and a script that uploads and registers it")
        .status(Status::DiskOnly)
        .license("Apache-2.0 OR MIT")
        .settings(crate::settings::settings())
        .disk(
            DiskNeeds::new(image.clone()) // The machine depends on the build; `create_disk` fills it in.
                .package(image.archive(Archive::Zip).ovf(Ovf::default()))
                .maximum_bytes(MAXIMUM)
                .multiple_of_bytes(512),
        )
        .guest(GuestNeeds::default().hypervisor("aws").minimum_version([("BIG-IP", "14.1.0")]))
        .image_name(
            NameRules::default()
                .minimum_length(3)
                .maximum_length(64)
                .pattern(r"[a-zA-Z0-9().\-/_]+")
                .explanation("3 to 64 letters, digits, `(`, `)`, `.`, `-`, `/` and `_`")
                .replace(r"[^a-zA-Z0-9().\-/_]"),
        )
        .tags(
            TagRules::default()
                .maximum(50)
                .key_length(128)
                .value_length(256)
                .forbidden_key_prefixes(["aws:"])
                .forbidden_value_prefixes(["aws:"]),
        )
        .uploads(true)
}
