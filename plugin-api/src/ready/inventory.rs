//! Applies the filters of an [`InventoryRequest`], and cuts the answer into pages.
//!
//! ```
//! use build_image_plugin_api::{
//!     Resource,
//!     document::{Inventory, InventoryRequest, Item, ItemKind},
//!     ready::inventory,
//! };
//!
//! let item = |id| Item::new(ItemKind::Image, id, Resource::default()).run_id("r-1");
//! let request = InventoryRequest::default().kinds([ItemKind::Image]).limit(1);
//! let mut answer = Inventory::default().items([item("m-2"), item("m-1")]);
//! answer.items.retain(|item| inventory::matches(&request, item));
//! inventory::cut(&request, &mut answer);
//! assert!(answer.items[0].id == "m-1" && answer.truncated);
//! ```

use crate::document::{Inventory, InventoryRequest, Item, ItemKind, Reference};

/// Maximum number of items of one answer.
const LIMIT: usize = 1000;

/// Returns whether a request asks for an item. An item without a run is listed only if the request names it. An item without
/// a region is in every region.
#[must_use]
pub fn matches(request: &InventoryRequest, item: &Item) -> bool {
    let of_run = request.run_id.is_none() || request.run_id == item.run_id;
    let created = item.created.unwrap_or_default();
    let in_time = request.created_since.is_none_or(|since| created >= since)
        && request.created_before.is_none_or(|before| created < before);
    let tagged = request.tags.iter().all(|(key, value)| item.tags.get(key) == Some(value));
    let is_named = request.items.iter().any(|named| is(named, item));
    let is_meant = if request.items.is_empty() { item.run_id.is_some() } else { is_named };
    let in_region = request.regions.is_empty()
        || item.region.as_ref().is_none_or(|region| request.regions.contains(region));
    let of_kind = request.kinds.is_empty() || request.kinds.contains(&item.kind);
    let has_name = request.names.is_empty() || request.names.contains(&item.name);
    of_run && in_time && tagged && is_meant && in_region && of_kind && has_name
}

/// Whether a reference is to an item. One without a kind is to an image.
fn is(named: &Reference, item: &Item) -> bool {
    let kind = if named.kind == ItemKind::Other { ItemKind::Image } else { named.kind };
    kind == item.kind
        && named.id == item.id
        && (named.region.is_none() || named.region == item.region)
}

/// Position of an item in the order of all items. An image precedes its snapshots, which cannot be removed before it.
fn place(item: &Item) -> String {
    let kind = match item.kind {
        ItemKind::Task => 0,
        ItemKind::Image => 1,
        ItemKind::Snapshot => 2,
        ItemKind::Object => 3,
        ItemKind::Upload => 4,
        _ => 5,
    };
    format!("{}/{kind}/{}", item.region.as_deref().unwrap_or_default(), item.id)
}

/// Returns whether all items of a region were in earlier answers, the last of which had `after` as its `next`: such a
/// region need not be read.
#[must_use]
pub fn is_before(region: &str, after: Option<&str>) -> bool {
    // `0` follows the slash after the region.
    after.is_some_and(|after| format!("{region}0").as_str() <= after)
}

/// Sorts the items of all regions that were read, and keeps those of one page: `limit` items, or 1000, after `after`.
pub fn cut(request: &InventoryRequest, all: &mut Inventory) {
    let limit = usize::try_from(request.limit).ok().filter(|&limit| limit > 0).unwrap_or(LIMIT);
    all.items.sort_by_cached_key(place);
    all.items.dedup_by_key(|item| place(item));
    if let Some(after) = &request.after {
        all.items.retain(|item| place(item) > *after);
    }
    all.truncated = all.items.len() > limit;
    all.items.truncate(limit);
    all.next = all.items.last().filter(|_| all.truncated).map(place);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Resource;

    fn item(kind: ItemKind, id: &str, region: &str) -> Item {
        Item::new(kind, id, Resource::default()).region(region)
    }

    fn web() -> Item {
        let item = item(ItemKind::Image, "m-1", "cn-hangzhou").name("web").run_id("run-1");
        item.created(100).tags([("team", "us")])
    }

    #[test]
    fn every_filter_must_match() {
        let all = InventoryRequest::default;
        let reference = || Reference::image("m-1");
        for (request, expected) in [
            (all(), true),
            (all().run_id("run-1"), true),
            (all().run_id("run-2"), false),
            (all().kinds([ItemKind::Image]), true),
            (all().kinds([ItemKind::Object]), false),
            (all().regions(["cn-hangzhou", "x"]), true),
            (all().regions(["cn-shanghai"]), false),
            (all().names(["web"]), true),
            (all().names(["we"]), false),
            (all().tags([("team", "us")]), true),
            (all().tags([("team", "us"), ("a", "b")]), false),
            (all().items([reference()]), true),
            (all().items([reference().in_region("cn-hangzhou")]), true),
            (all().items([reference().in_region("cn-shanghai")]), false),
            (all().items([Reference::new(ItemKind::Object, "m-1")]), false),
            (all().items([Reference::new(ItemKind::Other, "m-1")]), true),
            (all().created_since(100).created_before(101), true),
            (all().created_since(101), false),
            (all().created_before(100), false),
            (all().items([reference()]).run_id("run-2"), false),
        ] {
            assert_eq!(matches(&request, &web()), expected, "{request:?}");
        }
    }

    #[test]
    fn an_item_without_a_mark_is_listed_only_when_it_is_named() {
        let mut foreign = web();
        foreign.run_id = None;
        assert!(!matches(&InventoryRequest::default(), &foreign));
        let request = InventoryRequest::default().items([Reference::image("m-1")]);
        assert!(matches(&request, &foreign));
    }

    #[test]
    fn pages_contain_every_item_once_and_images_before_their_snapshots() {
        let all = || {
            let items = ["cn-a", "cn-a-b"].into_iter().flat_map(|region| {
                [(ItemKind::Snapshot, "a"), (ItemKind::Image, "z"), (ItemKind::Image, "z")]
                    .map(|(kind, id)| item(kind, id, region))
            });
            Inventory::default().items(items)
        };
        let mut whole = all();
        cut(&InventoryRequest::default(), &mut whole);
        assert!(!whole.truncated && whole.next.is_none());
        let kinds: Vec<ItemKind> = whole.items.iter().map(|item| item.kind).collect();
        assert_eq!(kinds[..2], [ItemKind::Image, ItemKind::Snapshot]);
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let mut request = InventoryRequest::default().limit(1);
            request.after = after;
            let mut page = all();
            page.items.retain(|item| {
                !is_before(item.region.as_deref().unwrap(), request.after.as_deref())
            });
            cut(&request, &mut page);
            seen.extend(page.items);
            after = page.next;
            if !page.truncated {
                break;
            }
        }
        assert_eq!(seen, whole.items);
    }
}
