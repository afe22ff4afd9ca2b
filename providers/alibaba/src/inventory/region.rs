//! Lists the images of a region, their snapshots, and the imports that are running there.

use std::collections::{BTreeMap, BTreeSet};

use build_image_plugin_api::{
    Resource, Result,
    document::{Audience, Item, ItemKind, ItemState, Reference},
    ready::inventory,
    retry::Failure,
};
use futures_util::{StreamExt as _, stream};

use super::{AT_A_TIME, LEASE, Reader, lease, now};
use crate::{
    acs::Parameters,
    describe::{GIB, TAGS_OF_RESOURCE},
    discard::POLICY,
    ecs::Ecs,
    image::Image,
    listing::{ListedTask, Snapshot, seconds},
    marks::{COPY_OF, DEPRECATED, DISK, IMAGE_OF, INTERMEDIATE, REPLACEMENT, read_image},
    owner::ECS_CLOUD,
    snapshots::noted,
    state::{IMAGE, SNAPSHOT},
    tagging::MARK,
    verdict::percent,
};

/// Snapshots by identifier.
type SnapshotsById = BTreeMap<String, Snapshot>;
/// Running imports by the identifier of the image that each makes.
type Imports = BTreeMap<String, ListedTask>;

impl Reader<'_> {
    /// Everything in ECS of a region.
    pub(super) async fn region(&self, region: &str) -> Result<Vec<Item>> {
        let kinds = [ItemKind::Image, ItemKind::Snapshot, ItemKind::Task];
        if !kinds.into_iter().any(|kind| self.wants(kind)) {
            return Ok(Vec::new());
        }
        let ecs = Ecs::of_region(self.config, region, self.credentials)?;
        let (images, imports) = self.images(&ecs).await?;
        let snapshots = self.snapshots(&ecs, &images).await?;
        let mut items = Vec::new();
        for image in &images {
            let task = imports.get(&image.image_id);
            let item = self.image(&ecs, image, &snapshots, task)?;
            items.extend(task.map(|task| task_item(task, &item)));
            items.push(item);
        }
        items.extend(self.snapshot_items(&ecs, &items, &images, snapshots)?);
        if self.request.details {
            self.add_shares(&ecs, &mut items).await?;
        }
        Ok(items)
    }

    /// Tags as parameters of a call that lists resources with them.
    fn tag_filters(&self) -> Parameters {
        let run = self.request.run_id.clone().unwrap_or_default();
        let tags = [(MARK.to_owned(), run)].into_iter().chain(self.request.tags.clone());
        let mut parameters = Parameters::new();
        for (at, (key, value)) in tags.take(TAGS_OF_RESOURCE).enumerate() {
            parameters.push((format!("Tag.{}.Key", at + 1), key));
            // A key without a value stands for every value.
            parameters
                .extend((!value.is_empty()).then(|| (format!("Tag.{}.Value", at + 1), value)));
        }
        parameters
    }

    async fn images(&self, ecs: &Ecs) -> Result<(Vec<Image>, Imports), Failure> {
        let tasks = self.named(ItemKind::Task, &ecs.region);
        let mut images = if self.by_name() {
            ecs.images_of(&self.named(ItemKind::Image, &ecs.region), &POLICY).await?
        } else {
            ecs.images_with(&self.tag_filters(), &POLICY).await?
        };
        let is_imported = |image: &Image| image.is_being_made() && image.tag(COPY_OF).is_none();
        let mut imports = Imports::new();
        if !tasks.is_empty() || images.iter().any(is_imported) {
            let running = ecs.running_imports(&POLICY).await?;
            imports.extend(running.into_iter().map(|(task, image)| (image, task)));
        }
        let of_tasks = imports.iter().filter(|(_, task)| tasks.contains(&task.task_id));
        let of_tasks: Vec<String> = of_tasks.map(|(image, _)| image.clone()).collect();
        images.extend(ecs.images_of(&of_tasks, &POLICY).await?);
        Ok((images, imports))
    }

    /// The marked snapshots, and those of the images; a listing of images without details has no use for them.
    async fn snapshots(&self, ecs: &Ecs, images: &[Image]) -> Result<SnapshotsById, Failure> {
        if !self.wants(ItemKind::Snapshot) && !self.request.details {
            return Ok(SnapshotsById::new());
        }
        let mut found = if self.by_name() {
            ecs.snapshots_of(&self.named(ItemKind::Snapshot, &ecs.region), &POLICY).await?
        } else {
            ecs.snapshots_with(&self.tag_filters(), &POLICY).await?
        };
        let known: BTreeSet<&String> = found.iter().map(|found| &found.snapshot_id).collect();
        let of_images = images.iter().flat_map(Image::snapshots);
        let missing: Vec<String> = of_images.filter(|id| !known.contains(id)).collect();
        found.extend(ecs.snapshots_of(&missing, &POLICY).await?);
        Ok(found.into_iter().map(|found| (found.snapshot_id.clone(), found)).collect())
    }

    fn image(
        &self,
        ecs: &Ecs,
        image: &Image,
        snapshots: &SnapshotsById,
        task: Option<&ListedTask>,
    ) -> Result<Item> {
        let created = seconds(&image.creation_time);
        let tags = image.tags();
        let run = tags.get(MARK).cloned();
        let mut resource =
            Resource::new(IMAGE, &image.image_name).with_id(&image.image_id).in_region(&ecs.region);
        // What was imported to be encrypted has no further use.
        resource.deliverable = !tags.contains_key(INTERMEDIATE);
        resource = self.in_cloud(resource, ECS_CLOUD, self.config.ecs_of(&ecs.region)?.cloud());
        for (name, value) in [("run", run.as_ref()), ("task_id", task.map(|task| &task.task_id))] {
            resource = value.map_or(resource.clone(), |value| resource.with(name, value));
        }
        let resource = noted(resource, &image.snapshots());
        let mut item = Item::new(ItemKind::Image, &image.image_id, resource)
            .name(&image.image_name)
            .region(&ecs.region)
            .state(state(&image.status))
            .audience(if image.is_public { Audience::Community } else { Audience::Private })
            .attributes(attributes(image, snapshots));
        if image.is_being_made() {
            // The import or copy runs in the cloud, at most for as long as a build waits for it.
            let lasts = LEASE.max(self.config.import.timeout.as_secs());
            item.percent = u8::try_from(percent(&image.progress)).ok();
            item.leased_until = lease(created, now(&ecs.service.http), lasts);
        }
        let reference = |key: &str| tags.get(key).and_then(|text| read_image(text));
        item.created = created;
        item.run_id = run;
        item.size_bytes = image.size.map(|size| size.saturating_mul(GIB));
        item.copied_from = reference(COPY_OF);
        item.replacement = reference(REPLACEMENT);
        item.deprecated_at = tags.get(DEPRECATED).and_then(|text| text.parse().ok());
        item.disk_digest = tags.get(DISK).filter(|text| text.starts_with("sha256:")).cloned();
        item.tags = tags;
        Ok(item)
    }

    fn snapshot_items(
        &self,
        ecs: &Ecs,
        images: &[Item],
        listed: &[Image],
        snapshots: SnapshotsById,
    ) -> Result<Vec<Item>> {
        let owner_of = |id: &String| {
            let image = listed.iter().find(|image| image.snapshots().contains(id))?;
            images.iter().find(|item| item.kind == ItemKind::Image && item.id == image.image_id)
        };
        let cloud = self.config.ecs_of(&ecs.region)?;
        let items = snapshots.into_values().map(|snapshot| {
            let image = owner_of(&snapshot.snapshot_id);
            let tags = snapshot.tags();
            let mut resource = Resource::new(SNAPSHOT, &snapshot.snapshot_id)
                .with_id(&snapshot.snapshot_id)
                .in_region(&ecs.region);
            resource = self.in_cloud(resource, ECS_CLOUD, cloud.cloud());
            // One that no image uses remained when its image was deleted.
            let is_used = || image.is_none() && snapshot.usage.contains("image");
            resource.deliverable =
                image.is_some_and(|image| image.resource.deliverable) || is_used();
            let mut item = Item::new(ItemKind::Snapshot, &snapshot.snapshot_id, resource)
                .name(&snapshot.snapshot_name)
                .region(&ecs.region)
                .state(state(&snapshot.status));
            let former =
                || tags.get(IMAGE_OF).map(|id| Reference::image(id).in_region(&ecs.region));
            item.created = seconds(&snapshot.creation_time);
            item.run_id = tags.get(MARK).cloned().or_else(|| image?.run_id.clone());
            item.size_bytes = snapshot.size().map(|size| size.saturating_mul(GIB));
            item.percent = u8::try_from(percent(&snapshot.progress))
                .ok()
                .filter(|_| item.state == ItemState::Pending);
            item.belongs_to = image.map(Item::reference).or_else(former);
            item.leased_until = image.and_then(|image| image.leased_until);
            item.attributes = encryption(&snapshot);
            item.tags = tags;
            item
        });
        Ok(items.collect())
    }

    /// Reads who uses each image that is listed.
    async fn add_shares(&self, ecs: &Ecs, items: &mut [Item]) -> Result<(), Failure> {
        let images = items
            .iter_mut()
            .filter(|item| item.kind == ItemKind::Image && inventory::matches(self.request, item));
        let reads = stream::iter(images).map(async |item| {
            let shares = ecs.shares(&item.id, &POLICY).await?;
            item.shared_with = Some(shares.into_iter().collect());
            Ok::<(), Failure>(())
        });
        let mut reads = reads.buffered(AT_A_TIME);
        while let Some(read) = reads.next().await {
            read?;
        }
        Ok(())
    }
}

/// The item of a running import. Removing it cancels the import and removes the image.
fn task_item(task: &ListedTask, image: &Item) -> Item {
    let mut resource = image.resource.clone();
    resource.deliverable = false;
    let mut item = Item::new(ItemKind::Task, &task.task_id, resource)
        .name(&image.name)
        .state(ItemState::Pending)
        .belongs_to(image.reference());
    item.region.clone_from(&image.region);
    item.run_id.clone_from(&image.run_id);
    item.created = seconds(&task.creation_time);
    item.percent = u8::try_from(percent(&task.task_process)).ok();
    item.leased_until = image.leased_until;
    item
}

/// The state of an image or snapshot, in the words of the service.
fn state(status: &str) -> ItemState {
    match status {
        "Available" | "accomplished" => ItemState::Available,
        "Creating" | "Waiting" | "progressing" => ItemState::Pending,
        "Deprecated" => ItemState::Deprecated,
        "UnAvailable" => ItemState::Disabled,
        "CreateFailed" | "failed" => ItemState::Failed,
        _ => ItemState::Unknown,
    }
}

/// What copies of an image share.
fn attributes(image: &Image, snapshots: &SnapshotsById) -> BTreeMap<String, String> {
    let given = [
        ("architecture", &image.architecture),
        ("boot_mode", &image.boot_mode),
        ("platform", &image.platform),
        ("nvme_support", &image.features.nvme_support),
        ("imds_support", &image.features.imds_support),
        ("family", &image.image_family),
        ("description", &image.description),
        ("resource_group", &image.resource_group_id),
    ];
    let given = given.into_iter().filter(|(_, value)| !value.is_empty());
    let mut all: BTreeMap<String, String> =
        given.map(|(name, value)| (name.to_owned(), value.clone())).collect();
    let system = image.snapshots().first().and_then(|id| snapshots.get(id));
    all.extend(system.map(encryption).unwrap_or_default());
    all
}

fn encryption(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let word = if snapshot.encrypted { "yes" } else { "no" };
    let mut all = BTreeMap::from([("encrypted".to_owned(), word.to_owned())]);
    if !snapshot.key.is_empty() {
        all.insert("kms_key".to_owned(), snapshot.key.clone());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_those_of_the_service() {
        for (status, expected) in [
            ("Available", ItemState::Available),
            ("Creating", ItemState::Pending),
            ("Waiting", ItemState::Pending),
            ("Deprecated", ItemState::Deprecated),
            ("UnAvailable", ItemState::Disabled),
            ("CreateFailed", ItemState::Failed),
            ("accomplished", ItemState::Available),
            ("progressing", ItemState::Pending),
            ("failed", ItemState::Failed),
            ("", ItemState::Unknown),
        ] {
            assert_eq!(state(status), expected, "{status}");
        }
    }
}
