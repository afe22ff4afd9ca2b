//! Dispatches an action's name to its implementation.

use std::sync::Arc;

use serde_json::Value;

use super::error::AcsError;
use super::params::Params;
use super::{copy, describe, image, import, import_image, region, share, snapshot, tag, task};
use crate::acs::unknown_action;
use crate::service::{Context, Service};

/// Serves one call.
pub(crate) async fn serve(
    service: &Arc<Service>,
    context: &Context<'_>,
    action: &str,
    params: &Params,
) -> Result<Value, AcsError> {
    match action {
        "DescribeRegions" => Ok(region::describe(context)),
        "ImportImage" => import_and_look(service, context, params).await,
        "DescribeTaskAttribute" => task::describe_one(context, params),
        "DescribeTasks" => task::describe(context, params),
        "CancelTask" => task::cancel(context, params),
        "DescribeImages" => describe::describe(context, params),
        "ModifyImageAttribute" => image::modify(context, params),
        "DeleteImage" => image::delete(context, params),
        "JoinResourceGroup" => image::join_group(context, params),
        "CopyImage" => copy::copy(context, params),
        "CancelCopyImage" => copy::cancel(context, params),
        "ModifyImageSharePermission" => share::modify(context, params),
        "DescribeImageSharePermission" => share::describe(context, params),
        "DescribeSnapshots" => snapshot::describe(context, params),
        "DeleteSnapshot" => snapshot::delete(context, params),
        "AddTags" => tag::add_old(context, params),
        "RemoveTags" => tag::remove_old(context, params),
        "TagResources" => tag::add(context, params),
        "UntagResources" => tag::remove(context, params),
        "ListTagResources" => tag::list(context, params),
        other => Err(unknown_action(other)),
    }
}

/// Inspects the object before the answer when imports take no time, otherwise while the task runs.
async fn import_and_look(
    service: &Arc<Service>,
    context: &Context<'_>,
    params: &Params,
) -> Result<Value, AcsError> {
    let imported = import_image::import(context, params)?;
    let Some(task) = imported.task else { return Ok(imported.answer) };
    let store = Arc::clone(service);
    let looking = tokio::task::spawn_blocking(move || import::inspect(&store.store, &task));
    if service.config.import_time.is_zero() {
        looking.await.map_err(|error| AcsError::internal(&error))??;
    }
    Ok(imported.answer)
}
