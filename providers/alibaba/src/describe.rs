//! Describes this provider to the host: the disk it needs, rules for names and tags. The settings are in a
//! separate file.
//!
//! Limits: ECS documentation of `ImportImage` and `TagResources`.

use build_image_plugin_api::{
    Archive, Description, DiskFormat, DiskNeeds, DiskSpec, GuestNeeds, LetterCase, NameRules,
    Status, TagRules,
};

/// Bytes of a GiB.
pub(crate) const GIB: u64 = 1 << 30;
/// Minimum and maximum length of an image name that the service accepts.
pub(crate) const NAME_LENGTH: (usize, usize) = (2, 128);
/// Prefixes that an image name must not have, compared case-insensitively.
pub(crate) const NAME_PREFIXES: [&str; 2] = ["aliyun", "acs:"];
/// Texts that neither names nor tags may contain.
pub(crate) const FORBIDDEN_TEXTS: [&str; 2] = ["http://", "https://"];
/// Maximum number of tags per resource.
pub(crate) const TAGS_MAXIMUM: usize = 20;
/// Maximum length of a tag key and value.
pub(crate) const TAG_LENGTH: usize = 128;

/// The whole description.
pub(crate) fn description() -> Description {
    Description {
        name: "alibaba".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        summary:
            "Alibaba Cloud: uploads the disk to an OSS bucket and registers an ECS custom image"
                .to_owned(),
        status: Status::Stable,
        license: "Apache-2.0 OR MIT".to_owned(),
        settings: crate::settings::settings(),
        disk: DiskNeeds {
            spec: DiskSpec { format: DiskFormat::Qcow2, ..DiskSpec::default() },
            package: Some(DiskSpec {
                format: DiskFormat::Qcow2,
                archive: Archive::TarGz,
                ..DiskSpec::default()
            }),
            minimum_bytes: Some(20 * GIB),
            maximum_bytes: Some(2048 * GIB),
            ..DiskNeeds::default()
        },
        guest: GuestNeeds {
            hypervisor: Some("alibaba".to_owned()),
            minimum_version: [("BIG-IP".to_owned(), "14.1.0.3".to_owned())].into(),
            ..GuestNeeds::default()
        },
        image_name: Some(name_rules()),
        tags: Some(tag_rules()),
        uploads: true,
        capabilities: vec!["resume".to_owned(), "share".to_owned()],
        ..Description::default()
    }
}

fn name_rules() -> NameRules {
    NameRules {
        minimum_length: NAME_LENGTH.0,
        maximum_length: NAME_LENGTH.1,
        pattern: r"\p{L}[\p{L}0-9._:-]+".to_owned(),
        explanation: "2 to 128 letters (Chinese ones too), digits, `.`, `_`, `:` and `-`, a letter first; not starting with `aliyun` or `acs:`".to_owned(),
        replace: "[^a-zA-Z0-9_-]".to_owned(),
        letter_case: LetterCase::Keep,
        forbidden_prefixes: NAME_PREFIXES.map(str::to_owned).to_vec(),
        forbidden_texts: FORBIDDEN_TEXTS.map(str::to_owned).to_vec(), ..NameRules::default() }
}

fn tag_rules() -> TagRules {
    TagRules {
        maximum: TAGS_MAXIMUM,
        key_length: TAG_LENGTH,
        value_length: TAG_LENGTH,
        forbidden_key_prefixes: NAME_PREFIXES.map(str::to_owned).to_vec(),
        forbidden_value_prefixes: vec!["acs:".to_owned()],
        forbidden_texts: FORBIDDEN_TEXTS.map(str::to_owned).to_vec(),
        keys_ignore_case: true,
        ..TagRules::default()
    }
}
