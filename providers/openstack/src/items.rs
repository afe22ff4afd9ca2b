//! Describes images and tasks of the service as the items of an inventory. Makes no requests.

use build_image_plugin_api::{
    Resource,
    document::{Audience, Item, ItemKind, ItemState, Reference},
};
use serde_json::Value;

use crate::{
    image::Image,
    marks::{self, DEPRECATED_AT, REPLACEMENT},
    owner::Owner,
    record::{IMAGE, RUN_ID},
};

/// Kind of a task of the service.
pub(crate) const TASK: &str = "image_task";
/// Attribute of a task with its image.
pub(crate) const OF_IMAGE: &str = "image";
/// Properties that images made from one disk share, as the service names them.
const ATTRIBUTES: [&str; 14] = [
    "architecture",
    "container_format",
    "disk_format",
    "hw_disk_bus",
    "hw_firmware_type",
    "hw_machine_type",
    "hw_qemu_guest_agent",
    "hw_scsi_model",
    "hw_vif_model",
    "os_distro",
    "os_hash_algo",
    "os_hash_value",
    "os_secure_boot",
    "os_version",
];
/// Numbers of the same kind.
const NUMBERS: [&str; 3] = ["min_disk", "min_ram", "virtual_size"];

/// Where items are: the project that reads them, and its image service.
pub(crate) struct Place<'a> {
    pub(crate) owner: &'a Owner,
    pub(crate) project: &'a str,
    pub(crate) region: Option<&'a str>,
}

impl Place<'_> {
    /// Completes a resource or item of this place.
    fn resource(&self, image: &Image, resource: Resource) -> Resource {
        let resource = match self.region {
            Some(region) => resource.in_region(region),
            None => resource,
        };
        let resource = resource.with(RUN_ID, image.run().unwrap_or_default());
        // Another project's image is refused by its project, not deleted by whoever sees it.
        match image.text("owner") {
            "" => self.owner.mark(resource),
            owner => self.owner.mark(resource).with(crate::owner::PROJECT, owner),
        }
    }

    /// Describes an image.
    pub(crate) fn image(&self, image: &Image) -> Item {
        let id = image.id();
        let resource = Resource::new(IMAGE, id).with_id(id).with("image_name", image.text("name"));
        let resource = self.resource(image, resource).as_deliverable();
        let mut item = Item::new(ItemKind::Image, id, resource)
            .name(image.text("name"))
            .state(state(image))
            .audience(audience(image.text("visibility")))
            .tags(tags(&image.tags()))
            .attributes(attributes(image));
        item.region = self.region.map(str::to_owned);
        item.run_id = image.run().map(str::to_owned);
        item.created = marks::seconds(image.text("created_at"));
        item.size_bytes = image.size();
        item.leased_until = image.leased_until();
        item.disk_digest = image.disk_digest().map(str::to_owned);
        item.owner = Some(image.text("owner"))
            .filter(|owner| !owner.is_empty() && *owner != self.project)
            .map(str::to_owned);
        // The members of a private image are not in use; those of others cost a request.
        item.shared_with = (image.text("visibility") == "private").then(Vec::new);
        item.deprecated_at = image.text(DEPRECATED_AT).parse().ok();
        item.replacement = replacement(image.text(REPLACEMENT));
        item
    }

    /// Describes a task that works on an image; `None` for one that has ended.
    pub(crate) fn task(&self, image: &Image, task: &Value) -> Option<Item> {
        let text = |name: &str| task[name].as_str().unwrap_or_default();
        if !matches!(text("status"), "pending" | "processing") || text("id").is_empty() {
            return None;
        }
        let resource = Resource::new(TASK, text("id")).with_id(text("id"));
        let resource = self.resource(image, resource.with(OF_IMAGE, image.id()));
        let whole = self.image(image);
        let mut item = Item::new(ItemKind::Task, text("id"), resource)
            .name(text("type"))
            .state(ItemState::Pending)
            .belongs_to(whole.reference());
        item.region = self.region.map(str::to_owned);
        (item.run_id, item.owner) = (whole.run_id, whole.owner);
        (item.created, item.leased_until) =
            (marks::seconds(text("created_at")), whole.leased_until);
        Some(item)
    }
}

/// Whether a task may be working on an image.
pub(crate) fn may_have_task(image: &Image) -> bool {
    let receives = matches!(image.status(), "uploading" | "importing");
    receives || image.is_importing() || !image.stores_in("os_glance_importing_to_stores").is_empty()
}

fn state(image: &Image) -> ItemState {
    match image.status() {
        "queued" | "saving" | "uploading" | "importing" => ItemState::Pending,
        "active" if image.is_unfinished() => ItemState::Pending,
        "active" if image.is("os_hidden") => ItemState::Deprecated,
        "active" => ItemState::Available,
        "deactivated" => ItemState::Disabled,
        "killed" => ItemState::Failed,
        "deleted" | "pending_delete" => ItemState::Deleting,
        _ => ItemState::Unknown,
    }
}

/// Returns who can use an image with a visibility. One that is shared is for its members only.
pub(crate) fn audience(visibility: &str) -> Audience {
    match visibility {
        "private" | "shared" => Audience::Private,
        "community" => Audience::Community,
        "public" => Audience::Public,
        _ => Audience::Unknown,
    }
}

/// Returns key and value of the image's tags, as builds write them.
fn tags(tags: &[String]) -> Vec<(&str, &str)> {
    tags.iter().map(|tag| tag.split_once('=').unwrap_or((tag, ""))).collect()
}

fn attributes(image: &Image) -> Vec<(&'static str, String)> {
    let texts = ATTRIBUTES.into_iter().map(|name| (name, image.text(name).to_owned()));
    let number = |name| image.members.get(name).and_then(Value::as_u64).unwrap_or_default();
    let numbers = NUMBERS.into_iter().map(|name| (name, number(name)));
    let numbers = numbers.filter(|(_, value)| *value > 0);
    let numbers = numbers.map(|(name, value)| (name, value.to_string()));
    texts.filter(|(_, value)| !value.is_empty()).chain(numbers).collect()
}

/// Writes a replacement as the mark has it.
pub(crate) fn replacement_text(replacement: &Reference) -> String {
    match &replacement.region {
        Some(region) => format!("{}@{region}", replacement.id),
        None => replacement.id.clone(),
    }
}

fn replacement(text: &str) -> Option<Reference> {
    let (id, region) = text.split_once('@').map_or((text, None), |(id, one)| (id, Some(one)));
    let reference = Some(Reference::image(id)).filter(|_| !id.is_empty())?;
    Some(match region {
        Some(region) => reference.in_region(region),
        None => reference,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        image::RUN,
        marks::{IDENTITY, LEASE},
    };

    fn image(members: &Value) -> Image {
        let mut image = json!({
            "id": "i", "name": "n", "status": "active", "visibility": "private", "owner": "p", "tags": [],
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", RUN: "r", IDENTITY: "i",
        });
        image.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        Image::read(image).unwrap()
    }

    fn item(members: &Value) -> Item {
        let owner = Owner::default();
        Place { owner: &owner, project: "p", region: Some("one") }.image(&image(members))
    }

    #[test]
    fn the_state_follows_from_status_hiding_and_lease() {
        for (members, expected) in [
            (json!({}), ItemState::Available),
            (json!({"os_hidden": true}), ItemState::Deprecated),
            (json!({LEASE: "5", "os_hidden": true}), ItemState::Pending),
            (json!({"status": "queued"}), ItemState::Pending),
            (json!({"status": "saving"}), ItemState::Pending),
            (json!({"status": "uploading"}), ItemState::Pending),
            (json!({"status": "importing"}), ItemState::Pending),
            (json!({"status": "deactivated", "os_hidden": true}), ItemState::Disabled),
            (json!({"status": "killed"}), ItemState::Failed),
            (json!({"status": "pending_delete"}), ItemState::Deleting),
            (json!({"status": "melted"}), ItemState::Unknown),
        ] {
            assert_eq!(item(&members).state, expected, "{members}");
        }
    }

    #[test]
    fn an_item_has_what_the_service_knows() {
        let found = item(&json!({
            "size": 7, "tags": ["team=images", "plain", "a=b=c"], "hw_disk_bus": "virtio", "min_ram": 512, "min_disk": 0,
            "visibility": "community", DEPRECATED_AT: "9", REPLACEMENT: "other@two",
        }));
        assert_eq!((found.run_id.as_deref(), found.size_bytes), (Some("r"), Some(7)));
        assert_eq!((found.created, found.deprecated_at), (Some(1_767_225_600), Some(9)));
        let tags = [("team", "images"), ("plain", ""), ("a", "b=c")];
        assert_eq!(found.tags, tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        let attributes = [("hw_disk_bus", "virtio"), ("min_ram", "512")];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(found.attributes, attributes.into());
        assert_eq!(found.replacement, Some(Reference::image("other").in_region("two")));
        assert_eq!((found.audience, found.shared_with), (Audience::Community, None));
        assert_eq!((found.owner, found.resource.id.as_deref()), (None, Some("i")));
        assert!(found.resource.deliverable);
        let foreign = item(&json!({"owner": "q"}));
        assert_eq!(foreign.owner.as_deref(), Some("q"));
        assert_eq!(foreign.resource.attributes[crate::owner::PROJECT], "q");
    }

    #[test]
    fn only_tasks_that_run_are_items() {
        let owner = Owner::default();
        let place = Place { owner: &owner, project: "p", region: None };
        for (status, expected) in
            [("processing", true), ("pending", true), ("success", false), ("failure", false)]
        {
            let task = json!({"id": "t", "type": "api_image_import", "status": status});
            let found = place.task(&image(&json!({"status": "importing"})), &task);
            assert_eq!(found.is_some(), expected, "{status}");
            let Some(found) = found else { continue };
            assert_eq!(found.belongs_to, Some(Reference::image("i")));
            assert_eq!((found.run_id.as_deref(), found.resource.deliverable), (Some("r"), false));
        }
    }
}
