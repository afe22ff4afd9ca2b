//! Sets the name of an image, and those of its attributes that the service changes.
//!
//! Source: ECS API documentation, `ModifyImageAttribute` and `JoinResourceGroup`.

use std::collections::BTreeMap;

use build_image_plugin_api::{Error, Result};
use serde_json::Value;

use super::{Done, Manager, Target};
use crate::{client::CALL, ecs::pairs, image::Image, names::check_image_name, replace::NAME};

/// The attribute with the resource group.
const GROUP: &str = "resource_group";

/// The parameter that sets an attribute, and its value now; `None` for one that the service does not change.
fn parameter<'a>(image: &'a Image, attribute: &str) -> Option<(&'static str, &'a str)> {
    Some(match attribute {
        "boot_mode" => ("BootMode", &image.boot_mode),
        "nvme_support" => ("Features.NvmeSupport", &image.features.nvme_support),
        "imds_support" => ("Features.ImdsSupport", &image.features.imds_support),
        "family" => ("ImageFamily", &image.image_family),
        "description" => ("Description", &image.description),
        GROUP => ("ResourceGroupId", &image.resource_group_id),
        _ => return None,
    })
}

/// The parameters that differ. An attribute that cannot be set refuses all of them.
fn differing<'a>(
    image: &Image,
    name: Option<&'a str>,
    attributes: &'a BTreeMap<String, String>,
) -> Result<Vec<(&'static str, &'a str)>> {
    let id = &image.image_id;
    let mut differ = Vec::new();
    if let Some(name) = name.filter(|name| *name != image.image_name) {
        check_image_name(name, crate::describe::NAME_LENGTH)?;
        differ.push((NAME, name));
    }
    for (attribute, value) in attributes {
        let Some((parameter, now)) = parameter(image, attribute) else {
            return Err(Error::unsupported(
                format!("ECS does not change `{attribute}` of image `{id}`"),
                "delete it and copy the image again, or build it again",
            ));
        };
        if value.is_empty() && !now.is_empty() {
            return Err(Error::unsupported(
                format!("ECS does not remove `{attribute}` of image `{id}`"),
                "delete it and copy the image again, or give the image a value as well",
            ));
        }
        if value != now {
            differ.push((parameter, value));
        }
    }
    Ok(differ)
}

impl Manager<'_> {
    /// Sets a name and attributes.
    pub(super) async fn set(
        &self,
        target: &Target,
        name: Option<&str>,
        attributes: &BTreeMap<String, String>,
    ) -> Done {
        let differ = differing(&target.image, name, attributes)?;
        if differ.is_empty() {
            return Ok(None);
        }
        let (group, others): (Vec<_>, Vec<_>) =
            differ.iter().copied().partition(|(parameter, _)| *parameter == "ResourceGroupId");
        if !others.is_empty() {
            self.modify(target, &others).await?;
        }
        for (_, group) in group.iter().filter(|_| !self.request.dry_run) {
            self.join(target, group).await?;
        }
        let words: Vec<&str> = differ.iter().map(|(parameter, _)| *parameter).collect();
        Ok(Some(format!("{} set", words.join(", "))))
    }

    async fn join(&self, target: &Target, group: &str) -> Result<()> {
        let (ecs, id) = (&target.ecs, &target.image.image_id);
        let parameters = pairs(&[
            ("RegionId", &ecs.region),
            ("ResourceGroupId", group),
            ("ResourceType", "image"),
            ("ResourceId", id),
        ]);
        let what = format!("image `{id}`");
        ecs.service.call::<Value>("JoinResourceGroup", &parameters, &what, &CALL).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::ErrorKind;
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_differs_and_can_be_set_is_sent() {
        let image: Image = serde_json::from_value(json!({"ImageId": "m-1", "ImageName": "web",
            "ImageFamily": "f", "BootMode": "UEFI", "ResourceGroupId": "rg-1"}))
        .unwrap();
        for (name, attribute, value, expected) in [
            (None, "family", "f", Ok(vec![])),
            (None, "family", "g", Ok(vec![("ImageFamily", "g")])),
            (Some("web"), "boot_mode", "BIOS", Ok(vec![("BootMode", "BIOS")])),
            (Some("db"), "family", "f", Ok(vec![(NAME, "db")])),
            (None, "resource_group", "rg-2", Ok(vec![("ResourceGroupId", "rg-2")])),
            (Some("db"), "encrypted", "yes", Err(ErrorKind::Unsupported)),
            (None, "family", "", Err(ErrorKind::Unsupported)),
            (Some("1"), "family", "f", Err(ErrorKind::Config)),
        ] {
            let attributes = [(attribute.to_owned(), value.to_owned())].into();
            let found = differing(&image, name, &attributes).map_err(|error| error.kind);
            assert_eq!(found, expected, "{name:?} {attribute}={value}");
        }
    }
}
