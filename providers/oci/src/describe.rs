//! Describes this provider to the host: the disk it needs and the rules for names. The settings are in a separate file.

use build_image_plugin_api::{Description, DiskNeeds, DiskSpec, NameRules, Status};

use crate::reference::{TAG_LENGTH, TAG_RULE};

/// The whole description. An image name may become a tag, so it has the grammar of tags.
pub(crate) fn description() -> Description {
    Description::new("oci", env!("CARGO_PKG_VERSION").to_owned())
        .summary(
            "OCI registries: uploads the disk as a container disk for KubeVirt or as an artifact"
                .to_owned(),
        )
        .status(Status::Stable)
        .license("Apache-2.0 OR MIT")
        .settings(crate::settings::settings())
        .disk(DiskNeeds::new(DiskSpec::default()))
        .image_name(
            NameRules::default()
                .minimum_length(1)
                .maximum_length(TAG_LENGTH)
                .pattern("[a-zA-Z0-9_][a-zA-Z0-9._-]*")
                .explanation(format!("it may become a tag; {TAG_RULE}"))
                .replace("[^a-zA-Z0-9._-]"),
        )
        .uploads(true)
        .capabilities(["resume"])
}
