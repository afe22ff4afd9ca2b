//! Describes this provider. Sources: names
//! <https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules>, tags
//! <https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources>, disks (fixed, whole MiB)
//! <https://learn.microsoft.com/azure/virtual-machines/linux/create-upload-generic>.

use build_image_plugin_api::{
    Archive, Description, DiskFormat, DiskNeeds, DiskSpec, GuestNeeds, NameRules, Status, TagRules,
};

/// Largest disk, in bytes: 127 GiB.
const MAXIMUM: u64 = 127 << 30;

pub(crate) fn description() -> Description {
    let image =
        DiskSpec { format: DiskFormat::Vhd, variant: "fixed".to_owned(), ..DiskSpec::default() };
    Description {
        name: "azure".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        summary: "Microsoft Azure: makes the disk and a script that uploads and registers it"
            .to_owned(),
        status: Status::Stub,
        license: "Apache-2.0 OR MIT".to_owned(),
        settings: crate::settings::settings(),
        disk: DiskNeeds {
            package: Some(DiskSpec {
                archive: Archive::TarGz,
                suffix: "vhd.tar.gz".to_owned(),
                ..image.clone()
            }),
            spec: image,
            maximum_bytes: Some(MAXIMUM),
            multiple_of_bytes: Some(512),
            ..DiskNeeds::default()
        },
        guest: GuestNeeds {
            hypervisor: Some("azure".to_owned()),
            minimum_version: [("BIG-IP".to_owned(), "14.1.0".to_owned())].into(),
            volumes: vec!["waagent".to_owned()],
            ..GuestNeeds::default()
        },
        image_name: Some(NameRules {
            minimum_length: 1,
            maximum_length: 80,
            pattern: r"[a-zA-Z0-9]([a-zA-Z0-9\-._]{0,78}[a-zA-Z0-9_])?".to_owned(),
            explanation: "1 to 80 letters, digits, `.`, `-` and `_`, a letter or digit first, no `.` or `-` last".to_owned(),
            replace: r"[^a-zA-Z0-9\-._]".to_owned(),
            ..NameRules::default()
        }),
        tags: Some(TagRules {
            maximum: 50,
            key_length: 512,
            value_length: 256,
            forbidden_key_prefixes: ["microsoft", "azure", "windows"].map(str::to_owned).to_vec(),
            keys_ignore_case: true,
            ..TagRules::default()
        }),
        uploads: true,
        ..Description::default()
    }
}
