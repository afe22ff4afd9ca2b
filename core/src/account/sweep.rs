//! Decides which objects in an account unfinished builds left. An object of a build that may still be at work is never
//! among them.

use std::{collections::BTreeMap, time::Duration};

use build_image_plugin_api::document::{Item, ItemKind, ItemState};
use serde::Serialize;

/// Decision about the objects of an inventory.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Objects to remove, by run.
    pub remove: BTreeMap<String, Vec<Item>>,
    /// Runs whose objects stay.
    pub kept: Vec<Kept>,
}

/// A run whose objects stay.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// The run.
    pub run_id: String,
    /// Its objects.
    pub items: Vec<Item>,
    /// Why they stay.
    pub reason: String,
}

/// Decides for the time `now` (seconds since 1970-01-01 UTC). What a run has not finished is removed together, once all of
/// it is older than `age` and not claimed; an image that is complete stays. `here` says why a run that has files on this host is
/// left to the commands for runs.
#[must_use]
pub fn sweep(
    items: Vec<Item>,
    now: u64,
    age: Duration,
    here: &dyn Fn(&str) -> Option<String>,
) -> Sweep {
    let mut runs: BTreeMap<String, Vec<Item>> = BTreeMap::new();
    for item in items {
        // Without a mark it belongs to others.
        if let Some(run) = item.run_id.clone().filter(|run| !run.is_empty()) {
            runs.entry(run).or_default().push(item);
        }
    }
    let mut decided = Sweep::default();
    for (run_id, items) in runs {
        if !items.iter().any(is_unfinished) {
            continue;
        }
        match here(&run_id).or_else(|| at_work(&items, now, age)) {
            Some(reason) => decided.kept.push(Kept { run_id, items, reason }),
            None => {
                let left = items.into_iter().filter(is_unfinished).collect();
                decided.remove.insert(run_id, left);
            }
        }
    }
    decided
}

/// Whether an object is not what a build was made for, or not complete.
fn is_unfinished(item: &Item) -> bool {
    !item.resource.deliverable
        || matches!(item.kind, ItemKind::Upload | ItemKind::Task)
        || matches!(item.state, ItemState::Pending | ItemState::Failed)
}

/// Returns why a run may still be at work.
fn at_work(items: &[Item], now: u64, age: Duration) -> Option<String> {
    if items.iter().any(|item| item.leased_until.is_some_and(|until| until > now)) {
        return Some("a build is at work with it".to_owned());
    }
    let mut unfinished = items.iter().filter(|item| is_unfinished(item));
    unfinished.find_map(|item| match item.created {
        None => Some(format!("the age of {} is not known", item.resource.label())),
        Some(created) if now.saturating_sub(created) < age.as_secs() => {
            Some("it is not old enough".to_owned())
        }
        Some(_) => None,
    })
}
