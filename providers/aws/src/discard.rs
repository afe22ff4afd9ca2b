//! Removes what a run created, by identity and mark. Every resource is tried; each that remains is listed with the
//! command that removes it. It also works after Ctrl-C: a stop request that was already present is the cause of this
//! discard.

use std::time::Duration;

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource, Result,
    document::{DiscardRequest, Discarded, Remaining},
    ready::directory,
    retry::{Backoff, Policy},
};

use crate::{
    cloud::{Cloud, Session},
    config::Config,
    copies::SOURCE,
    delta::{self, MANIFEST_OF},
    ec2::Ec2,
    image::Image,
    marks::MARK,
    owner::{Owner, RUN},
    replace, s3_removal,
    snapshot::{foreign, remove_marked},
    state::{DEREGISTERED, IMAGE, IMPORT, MANIFEST, MULTIPART, OBJECT, REPLACED, SNAPSHOT},
};

/// How long a request whose answer was not awaited may take to create something.
pub(crate) const LATE: Duration = Duration::from_millis(500);
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
    session: &Session,
    request: &DiscardRequest,
) -> Result<Discarded> {
    let is_file = |resource: &&Resource| resource.kind == directory::FILE;
    let files = request.resources.iter().filter(is_file).cloned();
    let mut answer = directory::remove(context, &DiscardRequest::new(request.reason, files))?;
    let in_cloud: Vec<&Resource> =
        request.resources.iter().filter(|resource| !is_file(resource)).collect();
    if in_cloud.is_empty() {
        return Ok(answer);
    }
    // The context's own runtime gives up when a stop was requested; this one must not.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Error::internal("cannot prepare requests to the cloud").caused_by(&error)
    })?;
    let stopped_before = context.is_cancelled();
    runtime.block_on(async {
        let opened = async {
            let cloud = Cloud::open(context, config, session).await?;
            let owner = Owner::now(&cloud, &POLICY).await?;
            Ok((cloud, owner))
        };
        let opened = unless_stopped(context, stopped_before, opened).await;
        for resource in in_cloud {
            let removed = match &opened {
                _ if replace::needs_no_call(request, resource) => Ok(()),
                Ok((cloud, owner)) => {
                    let removal = remove(context, cloud, owner, resource);
                    unless_stopped(context, stopped_before, removal).await
                }
                Err(error) => Err(error.clone()),
            };
            match removed {
                Ok(()) => {
                    // The answer reports it as well; a full disk must not keep the rest from being removed.
                    if let Err(error) = context.gone(resource) {
                        tracing::warn!(%error, "a removed resource was not recorded");
                    }
                    answer.removed.push(resource.clone());
                }
                Err(error) => answer.remaining.push(
                    Remaining::because_of(resource.clone(), &error).hint(remedy(resource, error)),
                ),
            }
        }
        Ok(answer)
    })
}

/// Runs a call; it ends when the host requests a stop in the meantime.
async fn unless_stopped<T>(
    context: &Context,
    stopped_before: bool,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    if stopped_before {
        return call.await;
    }
    tokio::select! {
        biased;
        result = call => result,
        error = context.cancelled() => Err(error),
    }
}

async fn remove(
    context: &Context,
    cloud: &Cloud<'_>,
    owner: &Owner,
    resource: &Resource,
) -> Result<()> {
    owner.may_remove(resource)?;
    let region = resource.region.as_deref().unwrap_or(&cloud.region);
    let ec2 = Ec2::open(cloud, region)?;
    match resource.kind.as_str() {
        IMAGE => remove_image(&ec2, resource).await,
        SNAPSHOT => remove_snapshot(&ec2, resource).await,
        MANIFEST => delta::remove(&ec2, resource, run_of(resource), &POLICY).await,
        DEREGISTERED => replace::register_again(context, &ec2, resource, &POLICY).await,
        REPLACED => replace::delete_replaced(&ec2, resource, &POLICY).await,
        OBJECT => s3_removal::object(cloud, region, resource).await,
        MULTIPART => s3_removal::multipart(cloud, region, resource).await,
        IMPORT => s3_removal::import(&ec2, run_of(resource)).await,
        kind => Err(Error::unsupported(
            format!("this provider creates no resources of kind `{kind}`"),
            "use the version that created it",
        )),
    }
}

/// Returns the run that created a resource.
fn run_of(resource: &Resource) -> &str {
    resource.attributes.get(RUN).map_or("", String::as_str)
}

/// Deregisters an image of a run, and deletes its snapshots that carry the mark of the run.
async fn remove_image(ec2: &Ec2, resource: &Resource) -> Result<()> {
    let run = run_of(resource);
    let mut found = find_images(ec2, resource, run).await?;
    if found.is_empty() && resource.id.is_none() {
        tokio::time::sleep(LATE).await;
        found = find_images(ec2, resource, run).await?;
    }
    let mut snapshots: Vec<String> = Vec::new();
    for image in found {
        snapshots.extend(image.snapshots());
        ec2.deregister(&image.image_id, &POLICY).await?;
    }
    if resource.attributes.contains_key(SOURCE) {
        // A copy in progress does not show its snapshots.
        let marked = ec2.snapshots_tagged(MARK, run, &POLICY).await?;
        snapshots.extend(marked.into_iter().map(|snapshot| snapshot.snapshot_id));
    }
    snapshots.sort();
    snapshots.dedup();
    for id in snapshots {
        match remove_marked(ec2, &id, run, &POLICY).await {
            // A snapshot without the mark.
            Err(error) if error.kind == ErrorKind::Conflict => {
                tracing::info!(snapshot = id, %error, "kept");
            }
            // What another image uses stays.
            removed => {
                removed?;
            }
        }
    }
    Ok(())
}

async fn find_images(ec2: &Ec2, resource: &Resource, run: &str) -> Result<Vec<Image>> {
    let Some(id) = &resource.id else {
        let mut found = ec2.images_with("name", &resource.name, &POLICY).await?;
        found.retain(|image| image.name == resource.name && image.is_of(run));
        return Ok(found);
    };
    match ec2.image(id, &POLICY).await? {
        Some(image) if !image.is_of(run) => Err(foreign("image", id)),
        found => Ok(found.into_iter().collect()),
    }
}

/// Deletes a snapshot of a run. One whose id was not confirmed is found by the mark of the run.
async fn remove_snapshot(ec2: &Ec2, resource: &Resource) -> Result<()> {
    let run = run_of(resource);
    if let Some(id) = &resource.id {
        return if remove_marked(ec2, id, run, &POLICY).await? { Ok(()) } else { Err(in_use(id)) };
    }
    let mut found = ec2.snapshots_tagged(MARK, run, &POLICY).await?;
    if found.is_empty() {
        tokio::time::sleep(LATE).await;
        found = ec2.snapshots_tagged(MARK, run, &POLICY).await?;
    }
    found.retain(|snapshot| snapshot.is_of(run) && snapshot.tag(MANIFEST_OF).is_none());
    for snapshot in found {
        if !ec2.delete_unused(&snapshot.snapshot_id, &POLICY).await? {
            return Err(in_use(&snapshot.snapshot_id));
        }
    }
    Ok(())
}

fn in_use(id: &str) -> Error {
    let message = format!("an image uses snapshot `{id}`");
    Error::new(ErrorKind::Conflict, message)
        .with_hint("leave it, or delete the image first: build-image images delete")
}

/// The remedy for a resource that could not be removed.
fn remedy(resource: &Resource, error: Error) -> String {
    let hint = error.hint.filter(|_| matches!(error.kind, ErrorKind::Config | ErrorKind::Conflict));
    hint.unwrap_or_else(|| by_hand(resource))
}

/// The command that removes a resource.
fn by_hand(resource: &Resource) -> String {
    let region = resource.region.as_deref().unwrap_or("REGION");
    let (name, run) = (&resource.name, run_of(resource));
    match (resource.kind.as_str(), &resource.id) {
        (IMAGE, Some(id)) => {
            format!("aws ec2 deregister-image --region {region} --image-id {id}")
        }
        (SNAPSHOT | MANIFEST | REPLACED, Some(id)) => {
            format!("aws ec2 delete-snapshot --region {region} --snapshot-id {id}")
        }
        (SNAPSHOT | MANIFEST, None) => format!(
            "aws ec2 describe-snapshots --region {region} --owner-ids self --filters Name=tag:{MARK},Values={run}"
        ),
        (IMAGE, None) => format!(
            "aws ec2 describe-images --region {region} --owners self --filters Name=tag:{MARK},Values={run}"
        ),
        (DEREGISTERED, _) => {
            "register the image again from its snapshots, which are kept: aws ec2 register-image"
                .to_owned()
        }
        (OBJECT, _) => format!("aws s3 rm s3://{name} --region {region}"),
        (MULTIPART, _) => {
            format!("abort the upload of s3://{name} with: aws s3api abort-multipart-upload")
        }
        (IMPORT, _) => format!(
            "aws ec2 describe-import-snapshot-tasks --region {region}, look for the tag {MARK} with {run}, then: aws ec2 cancel-import-task"
        ),
        _ => format!("look for `{name}` in the console"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_command_with_what_it_needs() {
        for kind in [IMAGE, SNAPSHOT, MANIFEST, REPLACED, OBJECT, MULTIPART, IMPORT, DEREGISTERED] {
            for id in [None, Some("id-1")] {
                let mut resource =
                    Resource::new(kind, "b/name").in_region("eu-west-1").with(RUN, "r-1");
                resource.id = id.map(str::to_owned);
                let command = by_hand(&resource);
                assert!(command.contains("aws ") || command.contains("b/name"), "{kind} {command}");
            }
        }
    }
}
