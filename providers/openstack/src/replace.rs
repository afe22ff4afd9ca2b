//! Hides older images of the same name when the new image is active, and deletes them after the release. Only images of
//! the same project count, and each is identified by its id.

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource, Result,
    document::{Build, DiscardReason, DiscardRequest, Discarded},
    retry::Failure,
};
use serde_json::json;

use crate::{
    cloud::Cloud,
    config::{Config, IfExists},
    image::Image,
    owner::Owner,
    record::IMAGE,
};

/// Kind of an image that is hidden; its undo shows it again.
pub(crate) const HIDDEN: &str = "hidden_image";
/// Kind of a hidden image that is deleted after the release.
pub(crate) const REPLACED: &str = "replaced_image";
/// Checkpoint with the ids of the images that the run hides.
const HIDING: &str = "hiding";
/// Attribute with the id of the new image.
const NEW: &str = "new_image";

/// Returns the visible images of the project that have the build's name and are not `new`, also later ones.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn older(cloud: &Cloud, build: &Build, new: Option<&str>) -> Result<Vec<Image>> {
    let project = cloud.project();
    let mut found = cloud.images_named(&build.image_name, false).await?;
    found.retain(|image| {
        image.text("owner") == project
            && Some(image.id()) != new
            && image.text(crate::image::RUN) != build.run_id
    });
    Ok(found)
}

/// Hides the images that were created before the new one. Everything is in the journal before, so that an undo shows
/// them again. An image that was created later stays: two builds at once would otherwise hide each other's.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn hide_older(
    context: &Context,
    cloud: &Cloud,
    config: &Config,
    build: &Build,
    new: &Image,
) -> Result<Vec<String>> {
    if !matches!(config.if_exists, IfExists::Hide | IfExists::Replace) {
        return Ok(Vec::new());
    }
    let mut hidden = hidden_before(context, cloud).await?;
    let (before, later): (Vec<Image>, Vec<Image>) = older(cloud, build, Some(new.id()))
        .await?
        .into_iter()
        .partition(|image| precedes(image, new));
    for image in later {
        context.warning(
            format!("image `{}` of the same name was created later, and stays visible", image.id()),
            "delete the one that is not needed, or use images by their ids",
        )?;
    }
    let new = new.id();
    for image in before {
        let resource = |kind: &str| {
            let resource = Resource::new(kind, image.id()).with_id(image.id()).with(NEW, new);
            let resource = match &cloud.region {
                Some(region) => resource.in_region(region),
                None => resource,
            };
            Owner::now(cloud).mark(resource)
        };
        context.check_cancelled()?;
        if config.if_exists == IfExists::Replace {
            context.will_create(&resource(REPLACED))?;
        }
        context.will_create(&resource(HIDDEN).as_deliverable())?;
        hidden.push(image.id().to_owned());
        context.save(HIDING, &hidden)?;
        // An undo must not look at the image before a request that was already sent takes effect.
        match context.until_answered(set_hidden(cloud, image.id(), true)).await {
            Ok(()) => {}
            // Another build has replaced it meanwhile.
            Err(failure)
                if matches!(failure.status, Some(400 | 404 | 409 | 410))
                    && cloud.is_deleted(image.id()).await? =>
            {
                hidden.pop();
                if config.if_exists == IfExists::Replace {
                    context.gone(&resource(REPLACED))?;
                }
                context.gone(&resource(HIDDEN))?;
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    Ok(hidden)
}

/// Returns the images that an earlier process of the run has hidden.
async fn hidden_before(context: &Context, cloud: &Cloud) -> Result<Vec<String>> {
    let mut hidden = Vec::new();
    for id in context.load::<Vec<String>>(HIDING)?.unwrap_or_default() {
        if cloud.image(&id).await?.is_some_and(|image| image.is("os_hidden")) {
            hidden.push(id);
        }
    }
    Ok(hidden)
}

/// Whether an image was created before the new one. The service counts seconds: within one, the images of builds are
/// ordered by their ids, so that two builds at once agree, and all others were there before.
fn precedes(image: &Image, new: &Image) -> bool {
    let (created, new_created) = (image.text("created_at"), new.text("created_at"));
    let is_of_a_build = !image.text(crate::image::RUN).is_empty();
    created < new_created || created == new_created && (!is_of_a_build || image.id() < new.id())
}

async fn set_hidden(cloud: &Cloud, id: &str, hidden: bool) -> Result<(), Failure> {
    let word = if hidden { "hide" } else { "show" };
    let operations = json!([{"op": "replace", "path": "/os_hidden", "value": hidden}]);
    cloud.patch_image(id, operations, &format!("{word} image `{id}`")).await?;
    Ok(())
}

/// Shows an image again that a failed build has hidden.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn show_again(cloud: &Cloud, resource: &Resource) -> Result<()> {
    let id = resource.id.as_deref().unwrap_or(&resource.name);
    match cloud.image(id).await? {
        Some(image) if image.is("os_hidden") => Ok(set_hidden(cloud, id, false).await?),
        _ => Ok(()),
    }
}

/// Whether a resource is settled without any call: a replaced image that is shown again, and an image that a
/// completed build has hidden permanently.
pub(crate) fn needs_no_call(request: &DiscardRequest, resource: &Resource) -> bool {
    match resource.kind.as_str() {
        REPLACED => {
            request.reason == DiscardReason::Failed
                || request
                    .resources
                    .iter()
                    .any(|other| other.kind == HIDDEN && other.name == resource.name)
        }
        HIDDEN => request.reason == DiscardReason::Done,
        _ => false,
    }
}

/// Whether an older image that could not be shown again is replaced by this one, which stays then.
pub(crate) fn needs_new(answer: &Discarded, resource: &Resource) -> bool {
    let is_new =
        |left: &Resource| left.kind == HIDDEN && left.attributes.get(NEW) == Some(&resource.name);
    resource.kind == IMAGE && answer.remaining.iter().any(|left| is_new(&left.resource))
}

/// Deletes a replaced image, if it is still hidden and the new image is active and visible in its place.
///
/// # Errors
/// Refusals; a conflict when the new image is not in place.
pub(crate) async fn delete_replaced(cloud: &Cloud, resource: &Resource) -> Result<()> {
    let id = resource.id.as_deref().unwrap_or(&resource.name);
    let Some(old) = cloud.image(id).await? else { return Ok(()) };
    if !old.is("os_hidden") {
        // It was shown again, so it belongs to the user.
        return Ok(());
    }
    let new = resource.attributes.get(NEW).map_or("", String::as_str);
    if cloud.image(new).await?.is_none_or(|new| new.status() != "active") {
        let message =
            format!("the replaced image `{id}` stays hidden: image `{new}` is not in its place");
        return Err(Error::new(ErrorKind::Conflict, message)
            .with_hint(format!("show it again: openstack image set --unhidden {id}")));
    }
    if old.is("protected") {
        let message = format!("the replaced image `{id}` is protected");
        return Err(Error::new(ErrorKind::Conflict, message).with_hint(format!(
            "openstack image set --unprotected {id} && openstack image delete {id}"
        )));
    }
    cloud.delete_image(id).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_the_same_second_precede_unless_a_build_at_the_same_time_created_them() {
        let image = |id: &str, second: &str, run: &str| {
            let mut members =
                json!({"id": id, "created_at": format!("2026-01-01T00:00:{second}Z")});
            if !run.is_empty() {
                members[crate::image::RUN] = json!(run);
            }
            Image::read(members).unwrap()
        };
        let new = image("m", "10", "ours");
        for (id, second, run, expected) in [
            ("z", "09", "", true),
            ("z", "09", "theirs", true),
            ("a", "11", "", false),
            ("z", "10", "", true),
            ("a", "10", "theirs", true),
            ("z", "10", "theirs", false),
        ] {
            assert_eq!(precedes(&image(id, second, run), &new), expected, "{id} {second} {run}");
        }
    }

    #[test]
    fn a_replaced_image_is_never_deleted_while_its_hiding_can_be_undone() {
        let (hidden, replaced) = (Resource::new(HIDDEN, "i"), Resource::new(REPLACED, "i"));
        let request = |reason, resources: &[&Resource]| {
            DiscardRequest::new(reason, resources.iter().map(|one| (*one).clone()))
        };
        for (reason, both, no_call) in [
            (DiscardReason::Failed, true, true),
            (DiscardReason::Failed, false, true),
            (DiscardReason::Leftover, true, true),
            (DiscardReason::Leftover, false, false),
            (DiscardReason::Done, false, false),
        ] {
            let resources = if both { vec![&hidden, &replaced] } else { vec![&replaced] };
            assert_eq!(
                needs_no_call(&request(reason, &resources), &replaced),
                no_call,
                "{reason:?} {both}"
            );
        }
        assert!(needs_no_call(&request(DiscardReason::Done, &[&hidden]), &hidden));
        assert!(!needs_no_call(&request(DiscardReason::Failed, &[&hidden]), &hidden));
    }
}
