//! Removes what a run created: unfinished uploads, the object, the image with its task and snapshots. Every
//! resource is tried; each that remains is listed with the command that removes it. It also works after
//! Ctrl-C: a stop request that was already present is the cause of this discard.

use std::{sync::Arc, time::Duration};

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource, Result,
    document::{DiscardReason, DiscardRequest, Discarded, Remaining},
    retry::{Backoff, Failure, Policy},
};

use crate::{
    config::Config,
    credentials::Credentials,
    ecs::Ecs,
    oss::Oss,
    owner::{Guard, of_unknown},
    removal::{self, find_image, remove_image},
    replace::{give_name_back, is_open, remove_replaced, to_the_end, wanted_name},
    state::{IMAGE, IMPORT, ImportState, MULTIPART, OBJECT, RENAMED, REPLACED, SNAPSHOT, key_of},
};

/// Number of times an upload is aborted: parts in flight may outlive the first abort.
const ABORTS: usize = 3;
/// The user waits, but remaining resources cost money.
pub(crate) const POLICY: Policy = Policy::new(
    4,
    Duration::ZERO,
    Backoff::new(Duration::from_millis(250), Duration::from_secs(5)),
);

/// Removes resources in the given order.
///
/// # Errors
/// Only when nothing can be tried at all.
pub(crate) fn discard(
    context: &Context,
    config: &Config,
    credentials: &Arc<Credentials>,
    request: &DiscardRequest,
) -> Result<Discarded> {
    let stopped_before = context.is_cancelled();
    let mut guard = Guard { config, credentials, account: None };
    let mut answer = Discarded::default();
    for resource in &request.resources {
        let outcome = if context.is_cancelled() && !stopped_before {
            Err(Error::cancelled())
        } else if let Some(old) = needs_its_name(&answer, resource) {
            let message = format!("kept: image `{old}` could not get its name back");
            Err(Error::new(ErrorKind::Conflict, message))
        } else if needs_no_call(request, resource) {
            Ok(())
        } else {
            // The context's own runtime gives up when a stop was requested; this one must not.
            let removed = remove(context, &mut guard, resource);
            // A replaced image is deleted without interruption: half of it would be useless.
            let stoppable = !stopped_before && resource.kind != REPLACED;
            to_the_end(unless_stopped(context, stoppable, removed))
        };
        match outcome {
            Ok(()) => {
                // The answer reports it as well; a full disk must not keep the rest from being removed.
                let recorded = context.gone(resource).and(ends_import(context, resource));
                if let Err(error) = recorded {
                    tracing::warn!(%error, "a removed resource was not recorded");
                }
                answer.removed.push(resource.clone());
            }
            Err(error) => answer.remaining.push(
                Remaining::new(resource.clone(), error.to_string())
                    .hint(remedy(config, resource, error)),
            ),
        }
    }
    Ok(answer)
}

/// Records that the image of the import is removed: a run that is resumed after that imports again.
fn ends_import(context: &Context, resource: &Resource) -> Result<()> {
    let state: Option<ImportState> = context.load(IMPORT)?;
    let Some(mut state) = state.filter(|state| state.image().is(resource)) else { return Ok(()) };
    state.failed = true;
    context.save(IMPORT, &state)
}

/// Runs a removal; a stoppable one ends when the host requests a stop in the meantime.
async fn unless_stopped(
    context: &Context,
    stoppable: bool,
    removal: impl Future<Output = Result<()>>,
) -> Result<()> {
    if !stoppable {
        return removal.await;
    }
    tokio::select! {
        biased;
        removed = removal => removed,
        error = context.cancelled() => Err(error),
    }
}

/// Whether a resource is settled without any call: a replaced image whose name is given back, and a name that
/// a completed build has taken permanently.
fn needs_no_call(request: &DiscardRequest, resource: &Resource) -> bool {
    match resource.kind.as_str() {
        REPLACED => is_open(request, resource),
        RENAMED => request.reason == DiscardReason::Done,
        _ => false,
    }
}

/// The old image whose name a new image has to keep because it could not be given back.
fn needs_its_name<'a>(answer: &'a Discarded, resource: &Resource) -> Option<&'a str> {
    let new = resource.id.as_ref().filter(|_| resource.kind == IMAGE)?;
    let swap = answer.remaining.iter().map(|left| &left.resource).find(|left| {
        left.kind == RENAMED
            && left.region == resource.region
            && left.attributes.get("new_image") == Some(new)
    });
    swap.and_then(|swap| swap.id.as_deref())
}

async fn remove(context: &Context, guard: &mut Guard<'_>, resource: &Resource) -> Result<()> {
    let is_own = guard.check(resource).await?;
    let Guard { config, credentials, .. } = *guard;
    let (bucket, region) = config.home();
    let bucket = resource.attributes.get("bucket").map(String::as_str).or(bucket);
    let region = resource.region.as_deref().or(region);
    let unknown = |what| Error::config(format!("the {what} of {} is not known", resource.label()));
    let region = region.ok_or_else(|| unknown("region"))?;
    let bucket = || bucket.ok_or_else(|| unknown("bucket"));
    let oss = || Oss::open(&config.place_of(bucket()?, region)?, Arc::clone(credentials));
    let ecs = || Ecs::of_region(config, region, credentials);
    // A bucket is the same for every account; an image is visible only to its own account.
    let by_account = !is_own && [IMAGE, RENAMED, REPLACED].contains(&resource.kind.as_str());
    let is_absent = by_account
        && find_image(&ecs()?, resource, bucket().unwrap_or_default(), &POLICY).await?.is_none();
    let removed = match resource.kind.as_str() {
        OBJECT => oss()?.delete(key_of(resource), &POLICY).await,
        MULTIPART => remove_upload(&oss()?, resource).await,
        IMAGE => remove_image(context, &ecs()?, resource, bucket()?, &POLICY).await,
        SNAPSHOT => remove_snapshot(&ecs()?, resource).await,
        RENAMED => give_name_back(&ecs()?, resource, &POLICY).await,
        REPLACED => remove_replaced(context, &ecs()?, resource, &POLICY).await,
        kind => Err(Failure::stop(Error::unsupported(
            format!("this provider makes no resources of kind `{kind}`"),
            "look it up in the version that made it",
        ))),
    };
    removed.map_err(Error::from)?;
    if is_absent { Err(of_unknown(resource)) } else { Ok(()) }
}

/// Aborts an upload until the service no longer knows it, and every other upload of exactly this key: the key
/// belongs to one run, and the answer that named an upload may have been lost.
pub(crate) async fn remove_upload(oss: &Oss, resource: &Resource) -> Result<(), Failure> {
    let key = key_of(resource);
    for _ in 0..ABORTS {
        let mut ids = match oss.list_uploads(key, &POLICY).await {
            // Not every user may list; known uploads are aborted nevertheless.
            Err(failure) if failure.error.kind == ErrorKind::Auth && resource.id.is_some() => {
                tracing::warn!(error = %failure.error, "further uploads cannot be looked for");
                Vec::new()
            }
            listed => listed?,
        };
        ids.extend(resource.id.iter().filter(|id| !ids.contains(id)).cloned().collect::<Vec<_>>());
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

/// Deletes a snapshot; one that does not exist is not an error.
async fn remove_snapshot(ecs: &Ecs, resource: &Resource) -> Result<(), Failure> {
    let id = resource.id.as_deref().unwrap_or(&resource.name);
    match ecs.delete_snapshot(id, &POLICY).await {
        Err(failure) if failure.has_code(&["InvalidSnapshotId.NotFound"]) => Ok(()),
        deleted => deleted,
    }
}

/// The remedy for a resource that could not be removed.
fn remedy(config: &Config, resource: &Resource, error: Error) -> String {
    let snapshot = error.context.iter().find(|(name, _)| name == removal::SNAPSHOT);
    if let Some((_, snapshot)) = snapshot {
        let region = resource.region.as_deref().or(config.home().1).unwrap_or("REGION");
        return format!(
            "aliyun ecs DeleteSnapshot --RegionId {region} --SnapshotId {snapshot} --Force true"
        );
    }
    let hint = error.hint.filter(|_| error.kind == ErrorKind::Config);
    hint.unwrap_or_else(|| by_hand(config, resource))
}

/// The command that removes a resource.
fn by_hand(config: &Config, resource: &Resource) -> String {
    let (bucket, region) = config.home();
    let bucket =
        resource.attributes.get("bucket").map(String::as_str).or(bucket).unwrap_or("BUCKET");
    let region = resource.region.as_deref().or(region).unwrap_or("REGION");
    let (name, key) = (&resource.name, key_of(resource));
    match (resource.kind.as_str(), &resource.id) {
        (OBJECT, _) => format!("aliyun oss rm oss://{bucket}/{key} --region {region}"),
        (MULTIPART, _) => format!("aliyun oss rm -m oss://{bucket}/{key} --region {region}"),
        (IMAGE | REPLACED, Some(id)) => {
            format!("aliyun ecs DeleteImage --RegionId {region} --ImageId {id} --Force true")
        }
        (SNAPSHOT, Some(id)) => {
            format!("aliyun ecs DeleteSnapshot --RegionId {region} --SnapshotId {id} --Force true")
        }
        (RENAMED, Some(id)) => format!(
            "aliyun ecs ModifyImageAttribute --RegionId {region} --ImageId {id} --ImageName {}",
            wanted_name(resource)
        ),
        (IMAGE, None) => {
            format!("aliyun ecs DescribeImages --RegionId {region} --ImageName {name}")
        }
        _ => format!("look for `{name}` in the console"),
    }
}
