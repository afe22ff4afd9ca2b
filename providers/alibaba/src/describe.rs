//! Describes this provider to the host: the disk it needs, rules for names and tags. The settings are in a
//! separate file.
//!
//! Limits: ECS documentation of `ImportImage` and `TagResources`.

use build_image_plugin_api::{
    Architecture, Archive, BootMode, Description, DiskFormat, DiskNeeds, DiskSpec, DriverNeed,
    GuestNeeds, LetterCase, MachineNeeds, NameRules, Status, TagRules,
};

/// Bytes of a GiB.
pub(crate) const GIB: u64 = 1 << 30;
/// Minimum and maximum length of an image name that the service accepts.
pub(crate) const NAME_LENGTH: (usize, usize) = (2, 128);
/// Prefixes that an image name must not have, compared case-insensitively.
pub(crate) const NAME_PREFIXES: [&str; 2] = ["aliyun", "acs:"];
/// Texts that neither names nor tags may contain.
pub(crate) const FORBIDDEN_TEXTS: [&str; 2] = ["http://", "https://"];
/// The rule for image names as a text.
const NAME_EXPLANATION: &str = "2 to 128 letters (Chinese ones too), digits, `.`, `_`, `:` and `-`, \
    a letter first; not starting with `aliyun` or `acs:`";
/// Maximum number of tags per resource.
pub(crate) const TAGS_OF_RESOURCE: usize = 20;
/// Maximum number of tags that a user can set; the rest are marks.
pub(crate) const TAGS_MAXIMUM: usize = TAGS_OF_RESOURCE - crate::marks::COUNT;
/// Maximum length of a tag key and value.
pub(crate) const TAG_LENGTH: usize = 128;

/// What the provider can do beyond the steps of a build.
const CAPABILITIES: [&str; 16] = [
    "resume",
    "upload.only",
    "locate",
    "share",
    "inventory",
    "same",
    "manage.share",
    "manage.unshare",
    "manage.publish",
    "manage.deprecate",
    "manage.restore",
    "manage.tag",
    "manage.untag",
    "manage.copy",
    "manage.modify",
    "manage.delete",
];

/// The whole description.
pub(crate) fn description() -> Description {
    Description::new("alibaba", env!("CARGO_PKG_VERSION"))
        .summary(
            "Alibaba Cloud: uploads the disk to an OSS bucket and registers an ECS custom image",
        )
        .status(Status::Stable)
        .license("Apache-2.0 OR MIT")
        .settings(crate::settings::settings())
        .disk(
            DiskNeeds::new(DiskSpec::new(DiskFormat::Qcow2))
                .package(DiskSpec::new(DiskFormat::Qcow2).archive(Archive::TarGz))
                .minimum_bytes(20 * GIB)
                .maximum_bytes(2048 * GIB),
        )
        .guest(
            GuestNeeds::default()
                .hypervisor("alibaba")
                .minimum_version([("BIG-IP", "14.1.0.3")])
                .machines(machines()),
        )
        .image_name(name_rules())
        .tags(tag_rules())
        .uploads(true)
        .capabilities(CAPABILITIES)
}

/// What ECS instances need: virtio drivers, and the driver of NVMe for newer instance families. Source:
/// <https://www.alibabacloud.com/help/en/ecs/user-guide/installvirtio-driver>.
fn machines() -> MachineNeeds {
    MachineNeeds::default()
        .architectures([Architecture::X86_64, Architecture::Aarch64])
        .firmware([BootMode::Bios, BootMode::Uefi])
        .schemes(["MBR", "GPT"])
        .disks([
            DriverNeed::new("the disk", ["virtio_blk"]),
            DriverNeed::new("the disk of NVMe instances", ["nvme"]).optional(true),
        ])
        .networks([DriverNeed::new("the network", ["virtio_net"])])
        .console("ttyS0")
        .agents(["cloud-init"])
}

fn name_rules() -> NameRules {
    NameRules::default()
        .minimum_length(NAME_LENGTH.0)
        .maximum_length(NAME_LENGTH.1)
        .pattern(r"\p{L}[\p{L}0-9._:-]+")
        .explanation(NAME_EXPLANATION)
        .replace("[^a-zA-Z0-9_-]")
        .letter_case(LetterCase::Keep)
        .forbidden_prefixes(NAME_PREFIXES)
        .forbidden_texts(FORBIDDEN_TEXTS)
}

fn tag_rules() -> TagRules {
    TagRules::default()
        .maximum(TAGS_MAXIMUM)
        .key_length(TAG_LENGTH)
        .value_length(TAG_LENGTH)
        .forbidden_key_prefixes(NAME_PREFIXES)
        .forbidden_value_prefixes(["acs:"])
        .forbidden_texts(FORBIDDEN_TEXTS)
        .keys_ignore_case(true)
}
