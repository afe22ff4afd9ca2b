//! Shares the image with projects, verifies it, and accepts it there where the same user may.

use build_image_plugin_api::{Context, Error, ErrorKind, Result, retry::Failure};
use reqwest::Method;
use serde_json::json;

use crate::{cloud::Cloud, config::Config, http::Meaning as _};

/// Status of a member that has accepted an image.
pub(crate) const ACCEPTED: &str = "accepted";

/// Shares the image; members that it has already stay.
///
/// # Errors
/// Refusals; members that the service does not list afterwards.
pub(crate) async fn share(
    context: &Context,
    cloud: &Cloud,
    config: &Config,
    id: &str,
) -> Result<()> {
    if config.members.is_empty() {
        return Ok(());
    }
    let known = cloud.members(id).await?;
    for project in &config.members {
        if !known.iter().any(|(member, _)| member == project) {
            context.check_cancelled()?;
            cloud.add_member(id, project).await?;
        }
    }
    if config.accept_members {
        for project in &config.members {
            if let Err(why) = accept(cloud, id, project).await {
                context.warning(
                    format!("image `{id}` is shared with project `{project}`, but not accepted there: {why}"),
                    format!("accept it in that project: openstack image set --accept {id}"),
                )?;
            }
        }
    }
    let members = cloud.members(id).await?;
    let missing: Vec<&str> = config
        .members
        .iter()
        .map(String::as_str)
        .filter(|project| !members.iter().any(|(member, _)| member == project))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "image `{id}` is not shared with {}, although the service accepted it",
        missing.join(", ")
    );
    Err(Error::new(ErrorKind::Provider, message))
}

/// Accepts the image in a project, with a token of the same user for it. An error is the reason why not.
async fn accept(cloud: &Cloud, id: &str, project: &str) -> Result<(), String> {
    let Some(token) = cloud.token_of(project).await else {
        return Err("an application credential belongs to one project".to_owned());
    };
    let reason = |failure: Failure| failure.error.message.clone();
    let token = token.map_err(reason)?;
    let what = format!("accept image `{id}` in project `{project}`");
    let body = ("application/json", json!({"status": ACCEPTED}));
    let path = format!("/v2/images/{id}/members/{project}");
    // A token of another project must not be renewed in place of that of the build.
    let answer =
        cloud.with_token(&token, Method::PUT, &path, Some(&body), &what).await.map_err(reason)?;
    match answer.document(&what).map_err(reason)?["status"].as_str() {
        Some(ACCEPTED) => Ok(()),
        _ => Err("the service keeps another status".to_owned()),
    }
}
