//! Describes this provider to the host: the disk it needs, rules for names and tags. The settings are in a
//! separate file.
//!
//! Limits: the image schema of Glance (`/v2/schemas/image`) and its default quotas (`image_tag_quota`).

use build_image_plugin_api::{
    Description, DiskNeeds, DiskSpec, GuestNeeds, NameRules, Status, TagRules,
};

use crate::machines;

/// Longest name of an image, in characters.
pub(crate) const NAME_LENGTH: usize = 255;
/// Longest key and value of a tag, in characters: `key=value` has at most 255.
pub(crate) const TAG_KEY: usize = 100;
pub(crate) const TAG_VALUE: usize = 154;
/// Most tags of an image.
const TAGS: usize = 128;

/// The whole description.
pub(crate) fn description() -> Description {
    let summary =
        "OpenStack: uploads the disk to the image service (Glance) and publishes it as an image";
    let tags = TagRules::default().maximum(TAGS).key_length(TAG_KEY).value_length(TAG_VALUE);
    Description::new("openstack", env!("CARGO_PKG_VERSION"))
        .summary(summary)
        .status(Status::Stable)
        .license("Apache-2.0 OR MIT")
        .settings(crate::settings::settings())
        .disk(DiskNeeds::new(DiskSpec::default()))
        .guest(GuestNeeds::default().machines(machines::usual()))
        .image_name(name_rules())
        .tags(tags)
        .uploads(true)
        .capabilities(
            ["resume", "share", "inventory", "same"].into_iter().chain(crate::manage::CAPABILITIES),
        )
}

fn name_rules() -> NameRules {
    NameRules::default()
        .minimum_length(1)
        .maximum_length(NAME_LENGTH)
        .pattern(r"[^\p{Cc}]+")
        .explanation(
            "1 to 255 characters without control characters; not starting with `in:`".to_owned(),
        )
        .replace("[^a-zA-Z0-9._-]")
        // The service reads a filter `name=in:…` as a list of names.
        .forbidden_prefixes(["in:"])
}
