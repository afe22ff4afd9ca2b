//! Removes what a run created, by id: the image, and the hiding of older images. Every resource is tried; each that
//! remains is listed with the command that removes it. It also works after Ctrl-C: a stop request that was already
//! present is the cause of this discard.

use std::{sync::Arc, time::Duration};

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource, Result,
    document::{DiscardRequest, Discarded, Remaining},
    retry::Policy,
};
use serde_json::{Value, json};

use crate::{
    cloud::{Cloud, Session},
    config::Config,
    copies::{self, STORE_COPY},
    items::{OF_IMAGE, TASK},
    owner::Owner,
    record::{IMAGE, RUN_ID},
    replace::{self, HIDDEN, REPLACED},
};

/// How long a request whose answer was not awaited may take to create an image.
const LATE: Duration = Duration::from_millis(500);

/// Removes resources in the given order.
///
/// # Errors
/// Only when nothing can be tried at all.
pub(crate) fn discard(
    context: &Context,
    config: &Config,
    session: &Arc<Session>,
    request: &DiscardRequest,
) -> Result<Discarded> {
    if request.resources.is_empty() {
        return Ok(Discarded::default());
    }
    // The context's own runtime gives up when a stop was requested; this one must not.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Error::internal("cannot prepare requests to the cloud").caused_by(&error)
    })?;
    let stopped_before = context.is_cancelled();
    runtime.block_on(async {
        let cloud = unless_stopped(
            context,
            stopped_before,
            Cloud::open(context, config, session, Policy::BRIEF),
        )
        .await;
        let mut answer = Discarded::default();
        for resource in &request.resources {
            let removed = match &cloud {
                _ if replace::needs_no_call(request, resource) => Ok(()),
                _ if replace::needs_new(&answer, resource) => {
                    let message = "kept: an older image of its name is still hidden";
                    Err(Error::new(ErrorKind::Conflict, message))
                }
                Ok(cloud) => unless_stopped(context, stopped_before, remove(cloud, resource)).await,
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
                    Remaining::new(resource.clone(), error.to_string())
                        .hint(remedy(resource, error)),
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

async fn remove(cloud: &Cloud, resource: &Resource) -> Result<()> {
    Owner::now(cloud).may_remove(resource)?;
    match resource.kind.as_str() {
        IMAGE => remove_image(cloud, resource).await,
        HIDDEN => replace::show_again(cloud, resource).await,
        REPLACED => replace::delete_replaced(cloud, resource).await,
        STORE_COPY => copies::remove(cloud, resource).await,
        TASK => end_of_task(cloud, resource).await,
        kind => Err(Error::unsupported(
            format!("this provider creates no resources of kind `{kind}`"),
            "use the version that created it",
        )),
    }
}

/// Deletes the image of a run. An image whose creation was not confirmed must carry the mark of the run.
async fn remove_image(cloud: &Cloud, resource: &Resource) -> Result<()> {
    let id = resource.id.as_deref().unwrap_or(&resource.name);
    let mut found = cloud.image(id).await?;
    if found.is_none() && resource.id.is_none() {
        tokio::time::sleep(LATE).await;
        found = cloud.image(id).await?;
    }
    let Some(image) = found else { return Ok(()) };
    let run = resource.attributes.get(RUN_ID).map_or("", String::as_str);
    if resource.id.is_none() && !image.belongs_to(run, &cloud.project()) {
        // An image of another user: the request that would have created ours was refused.
        return Ok(());
    }
    if image.is("protected") {
        let operations = json!([{"op": "replace", "path": "/protected", "value": false}]);
        cloud.patch_image(id, operations, &format!("unprotect image `{id}`")).await?;
    }
    cloud.delete_image(id).await?;
    Ok(())
}

/// A task ends by itself, and with its image; no request ends it.
async fn end_of_task(cloud: &Cloud, resource: &Resource) -> Result<()> {
    let image = resource.attributes.get(OF_IMAGE).map_or("", String::as_str);
    if cloud.image(image).await?.is_none() {
        return Ok(());
    }
    let is_this = |task: &Value| task["id"].as_str() == resource.id.as_deref();
    let tasks = cloud.tasks(image).await?;
    if tasks.iter().any(|task| {
        is_this(task) && matches!(task["status"].as_str(), Some("pending" | "processing"))
    }) {
        let message = format!("the task is still working on image `{image}`, and ends by itself");
        return Err(Error::new(ErrorKind::Conflict, message).retryable());
    }
    Ok(())
}

/// The remedy for a resource that could not be removed.
fn remedy(resource: &Resource, error: Error) -> String {
    let hint = error.hint.filter(|_| matches!(error.kind, ErrorKind::Config | ErrorKind::Conflict));
    let id = resource.id.as_deref().unwrap_or(&resource.name);
    hint.unwrap_or_else(|| match resource.kind.as_str() {
        STORE_COPY => copies::remedy(resource),
        TASK => "wait until the task has ended, or delete its image".to_owned(),
        HIDDEN => format!("openstack image set --unhidden {id}"),
        _ => format!("openstack image delete {id}"),
    })
}
