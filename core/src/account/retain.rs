//! Decides which images of a family are superseded by newer ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use build_image_plugin_api::document::{Item, ItemKind, ItemState};

/// Which images stay.
#[derive(Clone, Debug)]
pub struct Retention {
    /// What the names of the family start with.
    pub family: String,
    /// Number of the newest images that stay, in each region.
    pub keep: usize,
    /// Images that are younger stay as well.
    pub older_than: Option<Duration>,
}

/// Returns the images that the rule removes at the time `now` (seconds since 1970-01-01 UTC), the oldest first. An image that
/// is not complete, or whose age is not known, neither counts nor is removed. Images of one run and region count as one.
#[must_use]
pub fn superseded(items: &[Item], rule: &Retention, now: u64) -> Vec<Item> {
    let mut regions: BTreeMap<Option<&str>, Vec<(&Item, u64)>> = BTreeMap::new();
    for item in items {
        let is_complete = matches!(
            item.state,
            ItemState::Available | ItemState::Deprecated | ItemState::Disabled
        );
        let is_ours = item.run_id.is_some() && item.name.starts_with(&rule.family);
        if let (ItemKind::Image, true, true, Some(created)) =
            (item.kind, is_complete, is_ours, item.created)
        {
            regions.entry(item.region.as_deref()).or_default().push((item, created));
        }
    }
    let mut removed = Vec::new();
    for mut images in regions.into_values() {
        images.sort_by_key(|(item, created)| (std::cmp::Reverse(*created), item.id.clone()));
        let mut newest: BTreeSet<&str> = BTreeSet::new();
        for (item, created) in images {
            let run = item.run_id.as_deref().unwrap_or_default();
            if newest.contains(run) || newest.len() < rule.keep {
                newest.insert(run);
                continue;
            }
            let age = Duration::from_secs(now.saturating_sub(created));
            if rule.older_than.is_none_or(|least| age >= least) {
                removed.push((created, item.clone()));
            }
        }
    }
    removed.sort_by_key(|(created, item)| (*created, item.id.clone()));
    removed.into_iter().map(|(_, item)| item).collect()
}

/// Returns the images that the image `own` of a build replaces: those of its family and region that are active, older than
/// it, and not of the newest `keep` builds. Images of one run count as one.
#[must_use]
pub(crate) fn outdated<'a>(
    items: &'a [Item],
    family: &str,
    keep: usize,
    own: &Item,
) -> Vec<&'a Item> {
    let order = |item: &Item| (std::cmp::Reverse(item.created), item.id.clone());
    let is_active = |item: &&Item| {
        item.kind == ItemKind::Image
            && item.state == ItemState::Available
            && item.deprecated_at.is_none()
            && item.resource.deliverable
            && item.run_id.is_some()
            && item.created.is_some()
            && item.region == own.region
            && item.name.starts_with(family)
    };
    let mut active: Vec<&Item> = items.iter().filter(is_active).collect();
    active.sort_by_key(|item| order(item));
    let mut newest: BTreeSet<&str> = BTreeSet::new();
    let mut is_kept = |item: &Item, run: &'a str| {
        let is_kept = newest.contains(run) || newest.len() < keep;
        if is_kept {
            newest.insert(run);
        }
        is_kept || item.run_id == own.run_id || order(item) <= order(own)
    };
    active.retain(|item| !is_kept(item, item.run_id.as_deref().unwrap_or_default()));
    active
}
