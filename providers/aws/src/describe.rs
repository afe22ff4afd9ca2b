//! Describes this provider. Names are limited to 64 of the 128 characters that EC2 accepts (API reference,
//! `RegisterImage`), as in the old tool. Tags:
//! <https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html>.

use build_image_plugin_api::{
    Architecture, Archive, BootMode, Description, DiskFormat, DiskNeeds, DiskSpec, DiskVariant,
    DriverNeed, GuestNeeds, MachineNeeds, NameRules, Ovf, Status, TagRules,
};

use crate::marks::{COUNT, TAGS_OF_RESOURCE};

/// What the provider can do beyond the steps of a build.
pub(crate) const CAPABILITIES: [&str; 13] = [
    "resume",
    "share",
    "same",
    "inventory",
    "manage.share",
    "manage.unshare",
    "manage.publish",
    "manage.deprecate",
    "manage.restore",
    "manage.tag",
    "manage.untag",
    "manage.copy",
    "manage.delete",
];

/// The disk for an import from a bucket: few bytes, and readable from start to end.
pub(crate) fn import_disk() -> DiskSpec {
    DiskSpec::new(DiskFormat::Vmdk).variant(DiskVariant::StreamOptimized)
}

/// Largest disk, in bytes: a volume of type gp2 has at most 16 TiB. Source:
/// <https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html>.
const MAXIMUM: u64 = 16 << 40;

pub(crate) fn description() -> Description {
    Description::new("aws", env!("CARGO_PKG_VERSION"))
        .summary("Amazon EC2: writes the disk into a snapshot and registers an AMI")
        .status(Status::Stable)
        .license("Apache-2.0 OR MIT")
        .settings(crate::settings::settings())
        .disk(
            DiskNeeds::new(DiskSpec::new(DiskFormat::Raw))
                // The machine depends on the build; `create_disk` fills it in.
                .package(import_disk().archive(Archive::Zip).ovf(Ovf::default()))
                .maximum_bytes(MAXIMUM)
                .multiple_of_bytes(512),
        )
        .guest(
            GuestNeeds::default()
                .hypervisor("aws")
                .minimum_version([("BIG-IP", "14.1.0")])
                .machines(machines()),
        )
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
                .maximum(TAGS_OF_RESOURCE - COUNT)
                .key_length(128)
                .value_length(256)
                .forbidden_key_prefixes(["aws:"])
                .forbidden_value_prefixes(["aws:"]),
        )
        .uploads(true)
        .capabilities(CAPABILITIES)
}

/// What instances need: NVMe and ENA on the Nitro system, Xen's drivers on older families. Source:
/// <https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-nitro-instances.html>.
fn machines() -> MachineNeeds {
    MachineNeeds::default()
        .architectures([Architecture::X86_64, Architecture::Aarch64])
        .firmware([BootMode::Bios, BootMode::Uefi])
        .schemes(["MBR", "GPT"])
        .disks([
            DriverNeed::new("the disk of Nitro instances", ["nvme"]),
            DriverNeed::new("the disk of Xen instances", ["xen_blkfront"]).optional(true),
        ])
        .networks([
            DriverNeed::new("the network of Nitro instances", ["ena"]),
            DriverNeed::new("the network of Xen instances", ["xen_netfront"]).optional(true),
        ])
        .console("ttyS0")
        .agents(["cloud-init", "ignition"])
}
