//! Lists the account.

use build_image_plugin_api::{
    Error, ErrorKind, Result,
    document::{Finding, Inventory, InventoryRequest, Item, ItemKind, ItemState, Reference},
};

use crate::{
    SNAPSHOT, resource,
    store::{Store, now},
};

/// Most items of one answer.
const LIMIT: usize = 1000;

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
            all.items.extend(items.filter(|item| matches(request, item)));
        }
        all.regions.push(region.clone());
    }
    let limit = usize::try_from(request.limit).ok().filter(|&limit| limit > 0).unwrap_or(LIMIT);
    if let Some(after) = &request.after {
        all.items.retain(|item| place(item) > *after);
    }
    all.truncated = all.items.len() > limit;
    all.items.truncate(limit);
    all.next = all.items.last().filter(|_| all.truncated).map(place);
    Ok(all)
}

/// Where an item stands in the order of all items.
fn place(item: &Item) -> String {
    format!("{}/{}/{:?}", item.region.as_deref().unwrap_or_default(), item.id, item.kind)
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

fn matches(request: &InventoryRequest, item: &Item) -> bool {
    fn one_of<T: PartialEq>(wanted: &[T], value: &T) -> bool {
        wanted.is_empty() || wanted.contains(value)
    }
    let of_run = request.run_id.is_none() || request.run_id == item.run_id;
    let created = item.created.unwrap_or_default();
    let in_time = request.created_since.is_none_or(|since| created >= since)
        && request.created_before.is_none_or(|before| created < before);
    let tagged = request.tags.iter().all(|(key, value)| item.tags.get(key) == Some(value));
    let named = request.items.is_empty() || request.items.iter().any(|named| is(named, item));
    // What has no mark of a run is listed only when it is named.
    let marked = item.run_id.is_some() || !request.items.is_empty();
    of_run
        && in_time
        && tagged
        && named
        && marked
        && one_of(&request.kinds, &item.kind)
        && one_of(&request.names, &item.name)
}

fn is(named: &Reference, item: &Item) -> bool {
    named.id == item.id && (named.region.is_none() || named.region == item.region)
}
