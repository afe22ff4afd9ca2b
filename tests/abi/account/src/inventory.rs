//! Lists the account.

use build_image_plugin_api::{
    Error, ErrorKind, Result,
    document::{Finding, Inventory, InventoryRequest, Item, ItemKind, ItemState},
    ready::inventory,
};

use crate::{
    SNAPSHOT, resource,
    store::{Store, now},
};

pub(crate) fn inventory(store: &Store, request: &InventoryRequest) -> Result<Inventory> {
    let mut all = Inventory::default();
    let existing = store.regions()?;
    let wanted = if request.regions.is_empty() { &existing } else { &request.regions };
    for region in wanted {
        if !existing.contains(region) {
            let error = Error::new(ErrorKind::NotFound, format!("unknown region `{region}`"));
            all.findings.push(Finding::error(region, &error));
            continue;
        }
        for id in store.ids(region)? {
            let items = items(store, region, id)?.into_iter();
            all.items.extend(items.filter(|item| inventory::matches(request, item)));
        }
        all.regions.push(region.clone());
    }
    inventory::cut(request, &mut all);
    Ok(all)
}

/// Returns an image and its snapshot, or an upload in progress.
fn items(store: &Store, region: &str, id: String) -> Result<Vec<Item>> {
    let Some((size, modified)) = store.data(region, &id)? else { return Ok(Vec::new()) };
    let resource = resource(&id, region).with_id(&id);
    let base = |kind, resource| Item::new(kind, &id, resource).region(region).size_bytes(size);
    let Some(properties) = store.read(region, &id)? else {
        let upload = base(ItemKind::Upload, resource).state(ItemState::Pending).created(modified);
        return Ok(vec![match id.strip_prefix("img-") {
            Some(run) => upload.run_id(run),
            None => upload,
        }]);
    };
    let deprecated = properties.deprecated_at.is_some_and(|at| at <= now());
    let mut image = base(ItemKind::Image, resource.clone())
        .name(properties.name)
        .created(properties.created)
        .state(if deprecated { ItemState::Deprecated } else { ItemState::Available })
        .audience(properties.audience)
        .shared_with(properties.shared_with);
    image.run_id = properties.tags.get("run").cloned();
    image.disk_digest = properties.tags.get("disk").cloned();
    image.tags = properties.tags;
    image.deprecated_at = properties.deprecated_at;
    image.replacement = properties.replacement;
    image.copied_from = properties.copied_from;
    let mut part = resource;
    part.kind = SNAPSHOT.into();
    let mut snapshot = base(ItemKind::Snapshot, part)
        .created(modified)
        .state(ItemState::Available)
        .belongs_to(image.reference());
    snapshot.run_id.clone_from(&image.run_id);
    Ok(vec![image, snapshot])
}
