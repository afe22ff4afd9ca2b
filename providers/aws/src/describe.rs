//! Describes this provider. Names are limited to 64 of the 128 characters that EC2 accepts (API reference,
//! `RegisterImage`), as in the old tool. Tags:
//! <https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html>.

use build_image_plugin_api::{
    Archive, Description, DiskFormat, DiskNeeds, DiskSpec, GuestNeeds, NameRules, Ovf, Status,
    TagRules,
};

/// Largest disk, in bytes: a volume of type gp2 has at most 16 TiB. Source:
/// <https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html>.
const MAXIMUM: u64 = 16 << 40;

pub(crate) fn description() -> Description {
    let image = DiskSpec {
        format: DiskFormat::Vmdk,
        variant: "stream_optimized".to_owned(),
        ..DiskSpec::default()
    };
    Description {
        name: "aws".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        summary: "Amazon EC2: makes the disk and a script that uploads and registers it".to_owned(),
        status: Status::Stub,
        license: "Apache-2.0 OR MIT".to_owned(),
        settings: crate::settings::settings(),
        disk: DiskNeeds {
            // The machine depends on the build; `create_disk` fills it in.
            package: Some(DiskSpec {
                archive: Archive::Zip,
                ovf: Some(Ovf::default()),
                ..image.clone()
            }),
            spec: image,
            maximum_bytes: Some(MAXIMUM),
            multiple_of_bytes: Some(512),
            ..DiskNeeds::default()
        },
        guest: GuestNeeds {
            hypervisor: Some("aws".to_owned()),
            minimum_version: [("BIG-IP".to_owned(), "14.1.0".to_owned())].into(),
            ..GuestNeeds::default()
        },
        image_name: Some(NameRules {
            minimum_length: 3,
            maximum_length: 64,
            pattern: r"[a-zA-Z0-9().\-/_]+".to_owned(),
            explanation: "3 to 64 letters, digits, `(`, `)`, `.`, `-`, `/` and `_`".to_owned(),
            replace: r"[^a-zA-Z0-9().\-/_]".to_owned(),
            ..NameRules::default()
        }),
        tags: Some(TagRules {
            maximum: 50,
            key_length: 128,
            value_length: 256,
            forbidden_key_prefixes: vec!["aws:".to_owned()],
            forbidden_value_prefixes: vec!["aws:".to_owned()],
            ..TagRules::default()
        }),
        uploads: true,
        ..Description::default()
    }
}
