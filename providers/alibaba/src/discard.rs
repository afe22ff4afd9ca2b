//! Removing what a run made: unfinished uploads, the object, the image with its task and snapshots.
//! Every resource is tried; what stays is listed with the command that removes it. It works after
//! Ctrl-C too: a request to stop that was there before is what led here.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource, Result,
    document::{DiscardRequest, Discarded, Remaining},
};

use crate::{
    cloud::Cloud,
    config::Config,
    credentials::Credentials,
    ecs::Ecs,
    error::Failure,
    image::Image,
    oss::Oss,
    retry::Policy,
    snapshots,
    state::{IMAGE, MULTIPART, OBJECT, RENAMED},
    tagging::MARK,
};

/// Longest wait for an image to disappear.
const IMAGE_GONE: Duration = Duration::from_secs(120);
/// How often an upload is thrown away: parts in flight may outlive the first time.
const ABORTS: usize = 3;
/// Somebody waits, but what stays costs money.
const POLICY: Policy = Policy {
    attempts: 4,
    patience: Duration::ZERO,
    first_pause: Duration::from_millis(250),
    longest_pause: Duration::from_secs(5),
};
/// An image or task is in a state that passes.
const PASSING: [&str; 4] = [
    "ImageIsImporting",
    "OperationDenied.ImageCopying",
    "IncorrectImageStatus",
    "IncorrectTaskStatus",
];

/// Removes resources in the order given.
///
/// # Errors
/// Only when nothing can be tried at all.
pub(crate) fn discard(
    context: &Context,
    config: &Config,
    credentials: &Arc<Credentials>,
    request: &DiscardRequest,
) -> Result<Discarded> {
    // The context's own runtime gives up when a stop was asked for; this one must not.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Error::internal("cannot prepare the removal of resources").because(&error)
    })?;
    let stopped_before = context.is_cancelled();
    let mut answer = Discarded::default();
    for resource in &request.resources {
        let outcome = if context.is_cancelled() && !stopped_before {
            Err(Error::cancelled())
        } else {
            runtime.block_on(remove(context, config, credentials, resource))
        };
        match outcome {
            Ok(()) => {
                context.gone(resource)?;
                answer.removed.push(resource.clone());
            }
            Err(error) => answer.remaining.push(Remaining {
                resource: resource.clone(),
                reason: error.to_string(),
                hint: Some(by_hand(config, resource)),
                ..Remaining::default()
            }),
        }
    }
    Ok(answer)
}

async fn remove(
    context: &Context,
    config: &Config,
    credentials: &Arc<Credentials>,
    resource: &Resource,
) -> Result<()> {
    let (bucket, region) = config.home();
    let bucket = resource.attributes.get("bucket").map(String::as_str).or(bucket);
    let region = resource.region.as_deref().or(region);
    let (Some(bucket), Some(region)) = (bucket, region) else {
        return Err(Error::config(format!(
            "bucket or region of {} is not known",
            resource.label()
        )));
    };
    let cloud = Cloud::open(credentials, &config.place_of(bucket, region)?)?;
    let removed = match resource.kind.as_str() {
        OBJECT => cloud.oss.delete(&resource.name, &POLICY).await,
        MULTIPART => remove_upload(&cloud.oss, resource).await,
        IMAGE => remove_image(Some(context), &cloud.ecs, resource, bucket).await,
        RENAMED => give_name_back(&cloud.ecs, resource).await,
        kind => Err(Failure::stop(Error::unsupported(
            format!("this provider makes no resources of kind `{kind}`"),
            "look it up in the version that made it",
        ))),
    };
    removed.map_err(Error::from)
}

/// Throws an upload away until the service does not know it any more. Without an id, every upload of
/// exactly this key: the key belongs to one run.
async fn remove_upload(oss: &Oss, resource: &Resource) -> Result<(), Failure> {
    let key = &resource.name;
    for _ in 0..ABORTS {
        let ids = match &resource.id {
            Some(id) => vec![id.clone()],
            None => oss.list_uploads(key, &POLICY).await?,
        };
        let mut known = false;
        for id in &ids {
            known |= oss.abort(key, id, &POLICY).await?;
        }
        if !known {
            return Ok(());
        }
    }
    Ok(())
}

/// Gives an image that was moved aside its name back. The new image may have the name already; it is
/// the one that failed, so it goes back to the name it was made under.
async fn give_name_back(ecs: &Ecs, resource: &Resource) -> Result<(), Failure> {
    const NAME: &str = "ImageName";
    let attribute = |name: &str| resource.attributes.get(name).map_or("", String::as_str);
    let Some(old) = resource.id.as_deref() else { return Ok(()) };
    let wanted = resource.name.as_str();
    let Some(image) = ecs.image(old, &POLICY).await? else { return Ok(()) };
    if image.image_name != attribute("aside") {
        return Ok(());
    }
    let holders = ecs.images_named(wanted, &POLICY).await?;
    if holders.iter().any(|image| image.image_id == attribute("new_image")) {
        let back = attribute("new_name");
        ecs.modify_image(attribute("new_image"), &[(NAME, back)], &POLICY).await?;
    }
    ecs.modify_image(old, &[(NAME, wanted)], &POLICY).await
}

/// Removes the image with what belongs to it. Without an id only an image of this name is touched
/// that was imported from this run's object, or that wears this run's mark. With `journal` its snapshots
/// are written down first: between the image's end and theirs nothing else would know of them.
pub(crate) async fn remove_image(
    journal: Option<&Context>,
    ecs: &Ecs,
    resource: &Resource,
    bucket: &str,
) -> Result<(), Failure> {
    if let Some(task) = resource.attributes.get("task_id") {
        cancel_task(ecs, task).await?;
    }
    let mut ids: BTreeSet<String> = snapshots::known(resource).into_iter().collect();
    if let Some(image) = find_image(ecs, resource, bucket).await? {
        ids.extend(image.snapshots());
        let all: Vec<String> = ids.iter().cloned().collect();
        if let Some(journal) = journal {
            let image = resource.clone().with_id(&image.image_id);
            journal.created(&snapshots::noted(image, &all))?;
        }
        delete_until_gone(ecs, &image).await?;
    }
    if ids.is_empty() {
        ids.extend(ecs.orphans(resource, &POLICY).await?);
    }
    for snapshot in ids {
        match ecs.delete_snapshot(&snapshot, &POLICY).await {
            Err(failure) if !failure.is(&["InvalidSnapshotId.NotFound"]) => return Err(failure),
            _ => {}
        }
    }
    Ok(())
}

async fn find_image(
    ecs: &Ecs,
    resource: &Resource,
    bucket: &str,
) -> Result<Option<Image>, Failure> {
    if let Some(id) = &resource.id {
        return ecs.image(id, &POLICY).await;
    }
    let attribute = |name: &str| resource.attributes.get(name).map_or("", String::as_str);
    let found = ecs.images_named(&resource.name, &POLICY).await?;
    let ours = |image: &Image| match (attribute("object"), attribute("run")) {
        ("", "") => false,
        ("", run) => image.is_tagged(MARK, run),
        (object, _) => image.comes_from(bucket, object),
    };
    Ok(found.into_iter().find(ours))
}

/// Deletes an image and waits until it is not listed any more. States that pass are waited for, a
/// copy that runs is stopped, shares are taken back.
async fn delete_until_gone(ecs: &Ecs, image: &Image) -> Result<(), Failure> {
    let id = &image.image_id;
    let deadline = Instant::now() + IMAGE_GONE;
    let mut pause = Duration::from_millis(50);
    if matches!(image.status.as_str(), "Creating" | "Waiting") {
        // Only copies can be stopped this way; what is none says so and is deleted below.
        let _ = ecs.cancel_copy(id, &POLICY).await;
    }
    loop {
        match ecs.delete_image(id, &POLICY).await {
            Ok(()) => {}
            Err(failure) if failure.is(&["InvalidImageId.NotFound"]) => return Ok(()),
            Err(failure) if failure.is(&["ImageUseShared"]) && Instant::now() < deadline => {
                let shares: Vec<String> = ecs.shares(id, &POLICY).await?.into_iter().collect();
                ecs.change_shares(id, "RemoveAccount", &shares, &POLICY).await?;
            }
            Err(failure) if failure.is(&PASSING) && Instant::now() < deadline => {}
            Err(failure) => return Err(failure),
        }
        if ecs.image(id, &POLICY).await?.is_none() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let message = format!("image `{id}` is still there");
            return Err(Failure::stop(Error::new(ErrorKind::Timeout, message)));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Stops an import that runs; one that has ended is fine.
async fn cancel_task(ecs: &Ecs, task: &str) -> Result<(), Failure> {
    match ecs.task(task, &POLICY).await {
        Ok(task) if matches!(task.task_status.as_str(), "Finished" | "Failed" | "Deleted") => {
            return Ok(());
        }
        Ok(_) => {}
        Err(failure) if failure.is(&["InvalidTaskId.NotFound"]) => return Ok(()),
        Err(failure) => return Err(failure),
    }
    let ended =
        ["InvalidTaskId.NotFound", "IncorrectTaskStatus", "InvalidTaskId.TaskActionNotSupport"];
    match ecs.cancel_task(task, &POLICY).await {
        Err(failure) if !failure.is(&ended) => Err(failure),
        _ => Ok(()),
    }
}

/// The command that removes a resource.
fn by_hand(config: &Config, resource: &Resource) -> String {
    let (bucket, region) = config.home();
    let bucket =
        resource.attributes.get("bucket").map(String::as_str).or(bucket).unwrap_or("BUCKET");
    let region = resource.region.as_deref().or(region).unwrap_or("REGION");
    let name = &resource.name;
    match (resource.kind.as_str(), &resource.id) {
        (OBJECT, _) => format!("aliyun oss rm oss://{bucket}/{name} --region {region}"),
        (MULTIPART, _) => format!("aliyun oss rm -m oss://{bucket}/{name} --region {region}"),
        (IMAGE, Some(id)) => {
            format!("aliyun ecs DeleteImage --RegionId {region} --ImageId {id} --Force true")
        }
        (RENAMED, Some(id)) => format!(
            "aliyun ecs ModifyImageAttribute --RegionId {region} --ImageId {id} --ImageName {name}"
        ),
        (IMAGE, None) => {
            format!("aliyun ecs DescribeImages --RegionId {region} --ImageName {name}")
        }
        _ => format!("look for `{name}` in the console"),
    }
}
