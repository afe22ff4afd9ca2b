//! Lists the account.

use build_image_plugin_api::{
    Error, ErrorKind, Resource, Result,
    document::{Finding, Inventory, InventoryRequest, Item, ItemKind, ItemState, Reference},
};

use crate::{
    SNAPSHOT, resource,
    store::{Properties, Store, now},
};

/// Most items of one answer.
const LIMIT: usize = 1000;

pub(crate) fn inventory(store: &Store, request: &InventoryRequest) -> Result<Inventory> {
    let mut all = Inventory::default();
    let existing = store.regions()?;
    let wanted = if request.regions.is_empty() { &existing } else { &request.regions };
    for region in wanted {
        if !existing.contains(region) {
            let error = Error::new(ErrorKind::NotFound, format!("there is no region `{region}`"));
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
    let base = Item {
        region: Some(region.to_owned()),
        size_bytes: Some(size),
        resource,
        ..Item::default()
    };
    let Some(properties) = store.read(region, &id)? else {
        let run_id = id.strip_prefix("img-").map(str::to_owned);
        let (kind, state) = (ItemKind::Upload, ItemState::Pending);
        return Ok(vec![Item { kind, state, id, run_id, created: Some(modified), ..base }]);
    };
    let deprecated = properties.deprecated_at.is_some_and(|at| at <= now());
    let Properties { name, created, tags, audience, shared_with, .. } = properties;
    let image = Item {
        kind: ItemKind::Image,
        id,
        name,
        run_id: tags.get("run").cloned(),
        created: Some(created),
        state: if deprecated { ItemState::Deprecated } else { ItemState::Available },
        tags,
        audience,
        shared_with: Some(shared_with),
        deprecated_at: properties.deprecated_at,
        replacement: properties.replacement,
        copied_from: properties.copied_from,
        ..base
    };
    let snapshot = Item {
        kind: ItemKind::Snapshot,
        id: image.id.clone(),
        region: image.region.clone(),
        run_id: image.run_id.clone(),
        created: Some(modified),
        state: ItemState::Available,
        size_bytes: Some(size),
        belongs_to: Some(image.reference()),
        resource: Resource { kind: SNAPSHOT.into(), ..image.resource.clone() },
        ..Item::default()
    };
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
