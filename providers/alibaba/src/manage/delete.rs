//! Deletes images with their snapshots.
//!
//! The snapshots are marked with their image before it is deleted: when the call ends in between, a second one finds
//! them by that mark.
//!
//! Source: ECS API documentation, `DeleteImage` and `DeleteSnapshot`.

use std::time::{Duration, Instant};

use build_image_plugin_api::{Error, ErrorKind, Result, document::Reference, retry::Failure};
use serde_json::Value;

use super::{Done, Manager, Target, count};
use crate::{
    client::CALL,
    ecs::{Ecs, pairs},
    marks::{self, IMAGE_OF},
    names::tag_parameters,
    tagging::MARK,
};

/// Longest wait for an image to disappear.
const GONE: Duration = Duration::from_secs(120);

impl Manager<'_> {
    /// Deletes an image, and what an earlier call left of it.
    pub(super) async fn delete(&self, reference: &Reference, keep_data: bool, force: bool) -> Done {
        let ecs = self.client_of(reference)?;
        let id = &reference.id;
        let Some(image) = ecs.image(id, &CALL).await? else {
            return self.delete_rest(&ecs, id, keep_data).await;
        };
        let target = Target { ecs, image };
        let shares: Vec<String> = target.ecs.shares(id, &CALL).await?.into_iter().collect();
        check(&target, shares.len(), force)?;
        let snapshots = if keep_data { Vec::new() } else { target.image.snapshots() };
        if !self.request.dry_run {
            self.remove(&target, &shares, &snapshots, force).await?;
        }
        Ok(Some(match snapshots.len() {
            0 => "deleted".to_owned(),
            number => format!("deleted with {}", count(number, "snapshot")),
        }))
    }

    async fn remove(
        &self,
        target: &Target,
        shares: &[String],
        snapshots: &[String],
        force: bool,
    ) -> Result<()> {
        let Target { ecs, image } = target;
        let id = &image.image_id;
        let run = image.tag(MARK).unwrap_or_default();
        let mark = marks::with_run(&marks::tags([(IMAGE_OF, id)]), run);
        ecs.tag("snapshot", snapshots, &mark, &CALL).await?;
        if image.is_public {
            self.set_public(target, false).await?;
        }
        ecs.change_shares(id, "RemoveAccount", shares, &CALL).await?;
        let mut parameters = pairs(&[("RegionId", &ecs.region), ("ImageId", id)]);
        parameters.extend(force.then(|| ("Force".to_owned(), "true".to_owned())));
        let what = format!("image `{id}`");
        match ecs.service.call::<Value>("DeleteImage", &parameters, &what, &CALL).await {
            Err(failure) if !failure.has_code(&["InvalidImageId.NotFound"]) => {
                return Err(failure.into());
            }
            _ => {}
        }
        until_gone(ecs, id).await?;
        delete_snapshots(ecs, snapshots).await?;
        Ok(())
    }

    /// Deletes the snapshots of an image that is deleted.
    async fn delete_rest(&self, ecs: &Ecs, id: &str, keep_data: bool) -> Done {
        if keep_data {
            return Ok(None);
        }
        let filter = tag_parameters(&marks::tags([(IMAGE_OF, id)]));
        let left = ecs.snapshots_with(&filter, &CALL).await?.into_iter();
        let unused = left.filter(|snapshot| !snapshot.usage.contains("image"));
        let ids: Vec<String> = unused.map(|snapshot| snapshot.snapshot_id).collect();
        if ids.is_empty() {
            return Ok(None);
        }
        if !self.request.dry_run {
            delete_snapshots(ecs, &ids).await?;
        }
        Ok(Some(format!("{} of the deleted image deleted", count(ids.len(), "snapshot"))))
    }
}

/// Refuses what needs `force`.
fn check(target: &Target, shares: usize, force: bool) -> Result<()> {
    let image = &target.image;
    let id = &image.image_id;
    if image.is_being_made() {
        let message = format!("image `{id}` is being made");
        return Err(Error::new(ErrorKind::Conflict, message)
            .with_hint("wait until it is available, or remove the run with gc"));
    }
    let used = match (image.is_public, shares) {
        (true, _) => "published".to_owned(),
        (false, 0) => return Ok(()),
        (false, number) => format!("shared with {}", count(number, "account")),
    };
    if force {
        return Ok(());
    }
    let message = format!("image `{id}` is {used}");
    Err(Error::new(ErrorKind::Conflict, message).with_hint("withdraw that first, or force it"))
}

/// Waits until an image is not listed any more: the service deletes it some time later, and its snapshots are in use until
/// then.
async fn until_gone(ecs: &Ecs, id: &str) -> Result<()> {
    let deadline = Instant::now() + GONE;
    let mut pause = Duration::from_millis(50);
    while ecs.image(id, &CALL).await?.is_some() {
        if Instant::now() >= deadline {
            let message = format!("image `{id}` still exists after its deletion");
            return Err(Error::new(ErrorKind::Timeout, message).with_hint("delete it again later"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
    Ok(())
}

async fn delete_snapshots(ecs: &Ecs, ids: &[String]) -> Result<(), Failure> {
    for id in ids {
        match ecs.delete_snapshot(id, &CALL).await {
            Err(failure) if !failure.has_code(&["InvalidSnapshotId.NotFound"]) => {
                return Err(failure);
            }
            _ => {}
        }
    }
    Ok(())
}
