//! Implements DescribeSnapshots and DeleteSnapshot for the snapshots of images. A snapshot can be deleted
//! only after the image that uses it.

use serde_json::{Value, json};

use super::checks;
use super::describe::state;
use super::error::AcsError;
use super::params::Params;
use super::region;
use crate::clock;
use crate::service::Context;
use crate::state::{Snapshot, World};

/// Status and progress: those of the image while it is being made.
fn progress(world: &World, snapshot: &Snapshot, now: clock::Millis) -> (&'static str, i64) {
    match world.images.get(&snapshot.image).map(|image| state(world, image, now)) {
        Some(("Creating" | "Waiting", percent)) => ("progressing", percent),
        Some(("CreateFailed", percent)) => ("failed", percent),
        Some(_) | None => ("accomplished", 100),
    }
}

/// Name of a snapshot of an image. Not documented; derived from what clients of the real service look for.
pub(super) fn name_of(image: &str) -> String {
    format!("SnapshotForImage-{image}")
}

/// DescribeSnapshots.
pub(crate) fn describe(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let region = region::need(context, params, "RegionId")?;
    let (number, size) = params.page()?;
    let ids: Option<Vec<String>> = match params.get("SnapshotIds") {
        None => None,
        Some(text) => Some(
            serde_json::from_str(text)
                .map_err(|_| AcsError::invalid("InvalidSnapshotIds.Malformed", "SnapshotIds"))?,
        ),
    };
    let tags = params.tags();
    let world = context.store.world();
    let mut found: Vec<(&Snapshot, &'static str, i64)> = world
        .snapshots
        .iter()
        .filter(|snapshot| snapshot.region == region && snapshot.owner == context.account)
        .filter(|snapshot| ids.as_ref().is_none_or(|ids| ids.contains(&snapshot.id)))
        .filter(|snapshot| params.get("SnapshotName").is_none_or(|want| want == snapshot.name))
        .filter(|snapshot| checks::has_tags(&snapshot.tags, &tags))
        .map(|snapshot| {
            let (status, percent) = progress(&world, snapshot, context.now);
            (snapshot, status, percent)
        })
        .filter(|(snapshot, ..)| {
            let usage = usage(&world, snapshot);
            params.get("Usage").is_none_or(|want| want == usage)
        })
        .filter(|(_, status, _)| {
            params.get("Status").is_none_or(|want| want == "all" || want == *status)
        })
        .collect();
    found.sort_by(|a, b| (b.0.created, &b.0.id).cmp(&(a.0.created, &a.0.id)));
    let page: Vec<Value> = found
        .iter()
        .skip((number - 1) * size)
        .take(size)
        .map(|(snapshot, status, percent)| fields(&world, snapshot, status, *percent))
        .collect();
    Ok(json!({
        "TotalCount": found.len(),
        "PageNumber": number,
        "PageSize": size,
        "NextToken": "",
        "Snapshots": { "Snapshot": page },
    }))
}

/// The usage of a snapshot.
fn usage(world: &World, snapshot: &Snapshot) -> &'static str {
    if world.images.get(&snapshot.image).is_some() { "image" } else { "none" }
}

fn fields(world: &World, snapshot: &Snapshot, status: &str, percent: i64) -> Value {
    json!({
        "SnapshotId": snapshot.id,
        "SnapshotName": snapshot.name,
        "Description": "",
        "Status": status,
        "Progress": format!("{percent}%"),
        "RemainTime": 0,
        "SourceDiskId": "",
        "SourceDiskType": snapshot.kind,
        "SourceDiskSize": snapshot.size.to_string(),
        "SourceStorageType": "disk",
        "SnapshotType": "user",
        "Category": "standard",
        "Usage": usage(world, snapshot),
        "Encrypted": snapshot.kms_key.is_some(),
        "KMSKeyId": snapshot.kms_key.as_deref().unwrap_or_default(),
        "InstantAccess": false,
        "ProductCode": "",
        "ResourceGroupId": "",
        "CreationTime": clock::iso(snapshot.created),
        "Tags": { "Tag": super::tag::list_of(&snapshot.tags) },
    })
}

/// DeleteSnapshot.
pub(crate) fn delete(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let id = params.need("SnapshotId")?;
    let mut world = context.store.world();
    let found = world.snapshots.get(id).filter(|found| found.owner == context.account);
    let Some(snapshot) = found else {
        return Err(AcsError::new(
            404,
            "InvalidSnapshotId.NotFound",
            "The specified SnapshotId does not exist.",
        ));
    };
    if world.images.get(&snapshot.image).is_some() {
        return Err(AcsError::new(
            403,
            "SnapshotCreatedImage",
            "The specified snapshot has created image, please delete the image before deleting \
             this snapshot.",
        ));
    }
    world.snapshots.remove(id)?;
    Ok(json!({}))
}
