//! Lists the images and snapshots of a region.

use std::collections::{BTreeMap, BTreeSet};

use build_image_plugin_api::{
    Resource, Result,
    document::{Audience, Item, ItemKind, ItemState, Reference},
    ready::inventory,
    retry::Failure,
};
use futures_util::{StreamExt as _, stream};

use super::{AT_A_TIME, Reader};
use crate::{
    attributes::GIB,
    copies::SOURCE,
    delta::MANIFEST_OF,
    discard::POLICY,
    ec2::Ec2,
    image::{Image, Snapshot},
    listing::{Filter, tag_filters},
    marks::{
        DEPRECATED, DISK, IMAGE_OF, KEPT, LEASE, MARK, QUIET, REPLACEMENT, lease, read_image,
        seconds,
    },
    sharing,
    state::{IMAGE, MANIFEST, SNAPSHOT},
};

impl Reader<'_> {
    /// Everything in EC2 of a region, except imports.
    pub(super) async fn region(&self, region: &str) -> Result<Vec<Item>> {
        let kinds = [ItemKind::Image, ItemKind::Snapshot];
        if !kinds.into_iter().any(|kind| self.wants(kind)) {
            return Ok(Vec::new());
        }
        let ec2 = Ec2::open(self.cloud, region)?;
        let images = if self.by_name() {
            ec2.images_by("image-id", &self.named(ItemKind::Image, region), &POLICY).await?
        } else {
            ec2.own_images(&self.tag_filters(), &POLICY).await?
        };
        let mut items: Vec<Item> = images.iter().map(|image| self.image(&ec2, image)).collect();
        if self.wants(ItemKind::Snapshot) {
            items.extend(self.snapshots(&ec2, &images).await?);
        }
        if self.request.details {
            self.add_shares(&ec2, &mut items).await?;
        }
        Ok(items)
    }

    fn tag_filters(&self) -> Vec<Filter> {
        let run = self.request.run_id.as_deref().unwrap_or_default();
        let tags = self.request.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        tag_filters([(MARK, run)].into_iter().chain(tags))
    }

    fn image(&self, ec2: &Ec2, image: &Image) -> Item {
        let (created, run) = (image.creation_date.as_deref().and_then(seconds), image.run());
        let mut resource = self
            .owned(Resource::new(IMAGE, &image.name), &ec2.region, run)
            .with_id(&image.image_id);
        // A copy that is not finished is nothing that a build was made for.
        resource.deliverable = !image.is_unfinished_copy();
        if let Some(source) = image.copy_of() {
            resource = resource.with(SOURCE, &source.id);
        }
        let deprecated_at = deprecated_at(image);
        let mut item = Item::new(ItemKind::Image, &image.image_id, resource)
            .name(&image.name)
            .region(&ec2.region)
            .state(state(image, deprecated_at, self.now()))
            .audience(if image.is_public() { Audience::Public } else { Audience::Private })
            .attributes(attributes(image));
        if image.is_pending() {
            // The service copies, at most for as long as a build waits for it.
            let lasts = QUIET.max(self.cloud.config.import.limit.as_secs());
            item.leased_until = lease(created, self.now(), lasts);
        } else if image.is_unfinished_copy() {
            item.leased_until = lease(created, self.now(), QUIET);
        }
        item.created = created;
        item.run_id = run.map(str::to_owned);
        item.size_bytes = volumes(image);
        item.copied_from = image.copy_of().filter(|_| run.is_some());
        item.replacement = image.tag(REPLACEMENT).and_then(read_image);
        item.deprecated_at = deprecated_at;
        item.disk_digest =
            image.tag(DISK).filter(|text| text.starts_with("sha256:")).map(str::to_owned);
        item.owner = image.owner.clone().filter(|owner| *owner != self.owner.account);
        item.tags = image.tags();
        item
    }

    /// The marked snapshots, and those of the images.
    async fn snapshots(&self, ec2: &Ec2, images: &[Image]) -> Result<Vec<Item>, Failure> {
        let mut found = if self.by_name() {
            ec2.snapshots_of(&self.named(ItemKind::Snapshot, &ec2.region), &POLICY).await?
        } else {
            ec2.own_snapshots(&self.tag_filters(), &POLICY).await?
        };
        let known: BTreeSet<&String> = found.iter().map(|found| &found.snapshot_id).collect();
        let of_images = images.iter().filter(|image| image.run().is_some() || self.by_name());
        let of_images = of_images.flat_map(Image::snapshots);
        let missing: Vec<String> = of_images.filter(|id| !known.contains(id)).collect();
        found.extend(ec2.snapshots_of(&missing, &POLICY).await?);
        // Images of others may use a snapshot of a build as well.
        let used: BTreeSet<String> = images.iter().flat_map(Image::snapshots).collect();
        let unused = found.iter().map(|found| &found.snapshot_id).filter(|id| !used.contains(*id));
        // A manifest is needed as long as the snapshot that it describes.
        let described = found.iter().filter_map(|found| found.tag(MANIFEST_OF).map(str::to_owned));
        let unused: Vec<String> = unused.cloned().chain(described).collect();
        let users = ec2.images_by("block-device-mapping.snapshot-id", &unused, &POLICY).await?;
        let all: Vec<&Image> = images.iter().chain(&users).collect();
        Ok(found.iter().map(|snapshot| self.snapshot(ec2, snapshot, &all)).collect())
    }

    fn snapshot(&self, ec2: &Ec2, snapshot: &Snapshot, images: &[&Image]) -> Item {
        let (id, run, now) = (&snapshot.snapshot_id, snapshot.run(), self.now());
        let described = snapshot.tag(MANIFEST_OF);
        let of = described.unwrap_or(id);
        let image = images.iter().find(|image| image.snapshots().iter().any(|one| one == of));
        let kind = if described.is_some() { MANIFEST } else { SNAPSHOT };
        let mut resource = self.owned(Resource::new(kind, id), &ec2.region, run).with_id(id);
        resource.deliverable = image.is_some() || snapshot.tag(KEPT).is_some();
        let mut item = Item::new(ItemKind::Snapshot, id, resource)
            .name(snapshot.tag("Name").unwrap_or_default())
            .region(&ec2.region)
            .state(match snapshot.status.as_str() {
                "completed" => ItemState::Available,
                "pending" | "recovering" => ItemState::Pending,
                "error" => ItemState::Failed,
                _ => ItemState::Unknown,
            });
        let former = || snapshot.tag(IMAGE_OF).map(str::to_owned);
        let image = image.map(|image| image.image_id.clone()).or_else(former);
        item.belongs_to = image.map(|id| Reference::image(id).in_region(&ec2.region));
        item.created = snapshot.start_time.as_deref().and_then(seconds);
        item.run_id = run.map(str::to_owned);
        let volume = || snapshot.volume_size.map(|size| size.saturating_mul(GIB));
        item.size_bytes = snapshot.full_snapshot_size_in_bytes.or_else(volume);
        if item.state == ItemState::Pending {
            item.percent = u8::try_from(snapshot.percent()).ok();
        }
        let claimed = snapshot.tag(LEASE).and_then(|until| until.parse().ok());
        let claimed = claimed.filter(|until: &u64| run.is_some() && *until > now);
        item.leased_until = claimed.max(run.and_then(|_| lease(item.created, now, QUIET)));
        item.attributes = encryption(snapshot.encrypted);
        item.attributes.extend(snapshot.kms_key_id.clone().map(|key| ("kms_key".to_owned(), key)));
        item.tags = snapshot.tags();
        item
    }

    /// Reads who uses each image that is listed.
    async fn add_shares(&self, ec2: &Ec2, items: &mut [Item]) -> Result<(), Failure> {
        let images = items
            .iter_mut()
            .filter(|item| item.kind == ItemKind::Image && item.owner.is_none())
            .filter(|item| inventory::matches(self.request, item));
        let reads = stream::iter(images).map(async |item| {
            let permissions = match sharing::permissions(ec2, &item.id, &POLICY).await {
                // It was deregistered in the meantime.
                Err(failure) if crate::ec2::is_absent(&failure) => return Ok(()),
                read => read?,
            };
            item.shared_with = Some(sharing::members(&permissions));
            Ok::<(), Failure>(())
        });
        let mut reads = reads.buffered(AT_A_TIME);
        while let Some(read) = reads.next().await {
            read?;
        }
        Ok(())
    }
}

/// From when an image is deprecated. A time in the past is only in a mark; without the date of the service it is void.
pub(crate) fn deprecated_at(image: &Image) -> Option<u64> {
    let date = image.deprecation_time.as_deref().and_then(seconds)?;
    let marked = image.tag(DEPRECATED).and_then(|text| text.parse().ok());
    Some(marked.filter(|marked| *marked < date).unwrap_or(date))
}

fn state(image: &Image, deprecated_at: Option<u64>, now: u64) -> ItemState {
    match image.image_state.as_str() {
        "available" if deprecated_at.is_some_and(|at| at <= now) => ItemState::Deprecated,
        "available" => ItemState::Available,
        "pending" | "transient" => ItemState::Pending,
        "disabled" => ItemState::Disabled,
        "failed" | "error" | "invalid" => ItemState::Failed,
        _ => ItemState::Unknown,
    }
}

/// Bytes of the volumes of an image.
fn volumes(image: &Image) -> Option<u64> {
    let devices = image.block_device_mapping.item.iter();
    let sizes = devices.filter_map(|device| device.ebs.as_ref()?.volume_size);
    let total: u64 = sizes.sum();
    (total > 0).then(|| total.saturating_mul(GIB))
}

fn encryption(encrypted: Option<bool>) -> BTreeMap<String, String> {
    let word = encrypted.map(|is| if is { "yes" } else { "no" }.to_owned());
    word.map(|word| ("encrypted".to_owned(), word)).into_iter().collect()
}

/// What copies of an image share. Keys of encryption belong to one region.
fn attributes(image: &Image) -> BTreeMap<String, String> {
    let given = [
        ("architecture", image.architecture.clone()),
        ("boot_mode", image.boot_mode.clone()),
        ("virtualization_type", image.virtualization_type.clone()),
        ("ena_support", image.ena_support.map(|is| is.to_string())),
        ("sriov_net_support", image.sriov_net_support.clone()),
        ("imds_support", image.imds_support.clone()),
        ("tpm_support", image.tpm_support.clone()),
        ("root_device_name", image.root_device_name.clone()),
    ];
    let devices = &image.block_device_mapping.item;
    let root = devices.iter().find(|one| Some(&one.device_name) == image.root_device_name.as_ref());
    let root = root.and_then(|device| device.ebs.as_ref());
    let of_root = [
        ("volume_type", root.and_then(|ebs| ebs.volume_type.clone())),
        ("volume_size", root.and_then(|ebs| ebs.volume_size).map(|size| size.to_string())),
    ];
    let all = given.into_iter().chain(of_root);
    let mut all: BTreeMap<String, String> = all
        .filter_map(|(name, value)| Some((name.to_owned(), value.filter(|text| !text.is_empty())?)))
        .collect();
    // A copy in progress has no volumes yet.
    all.extend(encryption(root.and_then(|ebs| ebs.encrypted)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_those_of_the_service() {
        for (word, deprecated_at, expected) in [
            ("available", None, ItemState::Available),
            ("available", Some(101), ItemState::Available),
            ("available", Some(100), ItemState::Deprecated),
            ("pending", Some(1), ItemState::Pending),
            ("transient", None, ItemState::Pending),
            ("disabled", Some(1), ItemState::Disabled),
            ("failed", None, ItemState::Failed),
            ("error", None, ItemState::Failed),
            ("invalid", None, ItemState::Failed),
            ("", None, ItemState::Unknown),
        ] {
            let image = Image { image_state: word.to_owned(), ..Image::default() };
            assert_eq!(state(&image, deprecated_at, 100), expected, "{word} {deprecated_at:?}");
        }
    }
}
