//! Removes an image with everything that belongs to it: the import or copy that makes it, and its snapshots,
//! which are billed and remain when their image is deleted.
//!
//! Source: ECS API documentation, `DeleteImage`, `CancelTask`, and `CancelCopyImage`.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource,
    retry::{Failure, Policy},
};

use crate::{
    ecs::Ecs,
    image::Image,
    marks::{self, IMAGE_OF},
    snapshots,
    state::{IMPORT, ImportState},
    tagging::MARK,
};

/// Longest wait for an image to disappear.
const IMAGE_GONE: Duration = Duration::from_secs(120);
/// Key in the context of an error: the snapshot that could not be deleted.
pub(crate) const SNAPSHOT: &str = "snapshot";
/// Codes of transient states of an image or task.
const PASSING: [&str; 4] = [
    "ImageIsImporting",
    "OperationDenied.ImageCopying",
    "IncorrectImageStatus",
    "IncorrectTaskStatus",
];

/// Removes the image with everything that belongs to it. Without an id, only an image with this name is
/// touched that this run imported, or that has this run's mark. Its snapshots are recorded
/// first: after the image's removal, no other record of them would exist.
pub(crate) async fn remove_image(
    journal: &Context,
    ecs: &Ecs,
    resource: &Resource,
    bucket: &str,
    policy: &Policy,
) -> Result<(), Failure> {
    if let Some(task) = resource.attributes.get("task_id") {
        cancel_task(ecs, task, policy).await?;
    }
    let mut ids: BTreeSet<String> = snapshots::known(resource).into_iter().collect();
    if let Some(image) = find_image(ecs, resource, bucket, policy).await? {
        if image.is_being_made() && !resource.attributes.contains_key("task_id") {
            cancel_unlearned_import(journal, ecs, resource, policy).await?;
        }
        delete_until_gone(journal, ecs, resource, &image.image_id, &mut ids, policy).await?;
    }
    if ids.is_empty() {
        ids.extend(ecs.orphans(resource, policy).await?);
    }
    let mut refused = None;
    for snapshot in ids {
        match ecs.delete_snapshot(&snapshot, policy).await {
            Err(mut failure) if !failure.has_code(&["InvalidSnapshotId.NotFound"]) => {
                // The image is removed; only this snapshot is left to remove.
                failure.error.context.push((SNAPSHOT.to_owned(), snapshot));
                refused.get_or_insert(failure);
            }
            _ => {}
        }
    }
    refused.map_or(Ok(()), Err)
}

/// The image that a resource refers to: by its id, or by its name and origin; `None` when it does not exist.
pub(crate) async fn find_image(
    ecs: &Ecs,
    resource: &Resource,
    bucket: &str,
    policy: &Policy,
) -> Result<Option<Image>, Failure> {
    if let Some(id) = &resource.id {
        return ecs.image(id, policy).await;
    }
    let attribute = |name: &str| resource.attributes.get(name).map_or("", String::as_str);
    let found = ecs.images_named(&resource.name, policy).await?;
    let ours = |image: &Image| match (attribute("object"), attribute("run")) {
        ("", "") => false,
        ("", run) => image.is_tagged(MARK, run),
        (object, run) => marks::is_import_of(image, (bucket, object), run),
    };
    Ok(found.into_iter().find(ours))
}

/// Deletes an image and waits until it is no longer listed. It waits for transient states to end, cancels a
/// running copy, and revokes shares. Snapshots that become known in the meantime are recorded before the
/// image is deleted.
async fn delete_until_gone(
    journal: &Context,
    ecs: &Ecs,
    resource: &Resource,
    id: &str,
    ids: &mut BTreeSet<String>,
    policy: &Policy,
) -> Result<(), Failure> {
    let deadline = Instant::now() + IMAGE_GONE;
    let mut pause = Duration::from_millis(50);
    let mut cancelled = false;
    let mut noted = false;
    while let Some(image) = ecs.image(id, policy).await? {
        let before = ids.len();
        ids.extend(image.snapshots());
        if ids.len() > before || !std::mem::replace(&mut noted, true) {
            let all: Vec<String> = ids.iter().cloned().collect();
            journal.created(&snapshots::noted(resource.clone().with_id(id), &all))?;
            mark_snapshots(ecs, &image, &all, policy).await;
        }
        let late = Instant::now() >= deadline;
        if image.is_being_made() && !late {
            if !std::mem::replace(&mut cancelled, true) {
                // Only copies can be cancelled this way; an import must end by itself.
                let _ = ecs.cancel_copy(id, policy).await;
                continue;
            }
        } else {
            match ecs.delete_image(id, policy).await {
                Ok(()) => {}
                Err(failure) if failure.has_code(&["InvalidImageId.NotFound"]) => return Ok(()),
                Err(failure) if failure.has_code(&["ImageUseShared"]) && !late => {
                    let shares: Vec<String> = ecs.shares(id, policy).await?.into_iter().collect();
                    ecs.change_shares(id, "RemoveAccount", &shares, policy).await?;
                    continue;
                }
                Err(failure) if failure.has_code(&PASSING) && !late => {}
                Err(failure) => return Err(failure),
            }
            if ecs.image(id, policy).await?.is_none() {
                return Ok(());
            }
        }
        if late {
            let message = format!("image `{id}` is still there");
            return Err(Failure::stop(Error::new(ErrorKind::Timeout, message)));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
    Ok(())
}

/// Marks snapshots with their image and its run: whoever has no record finds them after the image is deleted. They are
/// about to be deleted as well, so a refusal is not an error.
async fn mark_snapshots(ecs: &Ecs, image: &Image, ids: &[String], policy: &Policy) {
    let run = image.tag(MARK).unwrap_or_default();
    let tags = marks::with_run(&marks::tags([(IMAGE_OF, &image.image_id)]), run);
    if let Err(failure) = ecs.tag("snapshot", ids, &tags, policy).await {
        tracing::warn!(error = %failure.error, "the snapshots of the image are not marked");
    }
}

/// Cancels an import whose task is unknown because the answer that named it was lost. The same call with the
/// same client token returns the import it started.
async fn cancel_unlearned_import(
    journal: &Context,
    ecs: &Ecs,
    resource: &Resource,
    policy: &Policy,
) -> Result<(), Failure> {
    let state: Option<ImportState> = journal.load(IMPORT)?;
    let ours = state.filter(|state| state.image().is(resource) && !state.call.is_empty());
    let Some(ImportState { call, .. }) = ours else { return Ok(()) };
    match ecs.import_image(&call, policy).await {
        Ok(imported) => match imported.task_id {
            Some(task) => cancel_task(ecs, &task, policy).await,
            None => Ok(()),
        },
        Err(failure) => {
            tracing::warn!(error = %failure.error, "the import's task is not known; waiting for its image");
            Ok(())
        }
    }
}

/// Cancels a running import; one that has ended is not an error.
async fn cancel_task(ecs: &Ecs, task: &str, policy: &Policy) -> Result<(), Failure> {
    match ecs.task(task, policy).await {
        Ok(task) if matches!(task.task_status.as_str(), "Finished" | "Failed" | "Deleted") => {
            return Ok(());
        }
        Ok(_) => {}
        Err(failure) if failure.has_code(&["InvalidTaskId.NotFound"]) => return Ok(()),
        Err(failure) => return Err(failure),
    }
    let ended =
        ["InvalidTaskId.NotFound", "IncorrectTaskStatus", "InvalidTaskId.TaskActionNotSupport"];
    match ecs.cancel_task(task, policy).await {
        Err(failure) if !failure.has_code(&ended) => Err(failure),
        _ => Ok(()),
    }
}
