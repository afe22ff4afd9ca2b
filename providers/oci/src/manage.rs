//! Deletes images of the repository, by digest. A registry has nothing else to change: it shares repositories, not images,
//! and a manifest with other annotations is another image.

use std::sync::Arc;

use build_image_plugin_api::{
    Context, Error, ErrorKind, Result,
    document::{Action, ManageOutcome, ManageRequest, Managed, Reference},
    retry::Policy,
};
use reqwest::Method;

use crate::{
    config::Config,
    inventory::digest_in,
    publish::{TagState, get_manifest, tag_state},
    reference::is_tag,
    registry::{Call, Registry, Session},
};

/// Words of the description, one for each action.
pub(crate) const CAPABILITIES: [&str; 1] = ["manage.delete"];

/// Changes images.
///
/// # Errors
/// Every action but the deletion; a registry that cannot be reached. What concerns one image is a result of that image.
pub(crate) fn manage(
    context: &Context,
    config: &Config,
    session: &Arc<Session>,
    request: &ManageRequest,
) -> Result<ManageOutcome> {
    context.check_cancelled()?;
    if !CAPABILITIES.contains(&request.action.capability()) {
        return Err(Error::unsupported(
            "images of a registry can be deleted, and not changed",
            "share the repository in the registry's interface; for other tags or annotations, build again with OCI_TAGS or OCI_ANNOTATIONS; copy with `skopeo copy`",
        ));
    }
    context.block_on(async {
        let policy = Policy::call(config.retry_time);
        let registry = Registry::open(context, config, session, policy).await?;
        let mut outcome = ManageOutcome::default();
        for image in &request.images {
            context.check_cancelled()?;
            outcome.results.push(match delete(&registry, image, request).await {
                Err(error) if error.kind == ErrorKind::Cancelled => return Err(error),
                result => result.unwrap_or_else(|error| Managed::refused(image, &error)),
            });
        }
        Ok(outcome)
    })
}

/// Deletes a manifest with all its tags. Its blobs stay until the registry collects what no image uses.
async fn delete(
    registry: &Registry,
    image: &Reference,
    request: &ManageRequest,
) -> Result<Managed> {
    let digest = match digest_of(registry, image)? {
        Some(digest) => digest,
        None if is_tag(&image.id) => match tag_state(registry, &image.id).await? {
            TagState::Free => return Ok(Managed::unchanged(image)),
            TagState::At(digest) => return Err(by_name(registry, &image.id, &digest)),
        },
        None => return Ok(Managed::unchanged(image)),
    };
    if get_manifest(registry, &digest).await?.is_none() {
        return Ok(Managed::unchanged(image));
    }
    let mut done = "deleted; the registry's garbage collection removes its layers".to_owned();
    if let Action::Delete { keep_data: true, .. } = request.action {
        done = "deleted; its layers stay until the registry's garbage collection".to_owned();
    }
    if request.dry_run {
        return Ok(Managed::done(image, done));
    }
    let call = Call::new(Method::DELETE, registry.url(&format!("manifests/{digest}"))?);
    match registry.call(&call, &format!("delete manifest `{digest}`")).await {
        Ok(_) => Ok(Managed::done(image, done)),
        Err(failure) if failure.has_status(404) => Ok(Managed::unchanged(image)),
        // "If tag deletion is disabled, the registry MUST respond with either a 400 or a 405"; the same for manifests.
        Err(failure) if failure.has_status(400) || failure.has_status(405) => {
            let message =
                format!("the registry `{}` forbids deletion", registry.reference.registry);
            Err(Error::unsupported(
                message,
                "delete the image in the registry's interface; Distribution needs `storage.delete.enabled: true`",
            )
            .caused_by(&*failure.error))
        }
        Err(failure) => Err(failure.into()),
    }
}

/// Returns the digest of a reference to this repository; `None` where it has none.
fn digest_of(registry: &Registry, image: &Reference) -> Result<Option<String>> {
    let name = registry.reference.name();
    let other = image.id.rsplit_once('@').map(|(other, _)| other).filter(|other| *other != name);
    if let Some(other) = other {
        return Err(Error::config(format!(
            "image `{}` belongs to `{other}`, and OCI_REFERENCE names `{name}`",
            image.id
        ))
        .with_hint(format!(
            "set OCI_REFERENCE to `{other}`, with the settings for that registry"
        )));
    }
    Ok(digest_in(registry, &image.id))
}

fn by_name(registry: &Registry, tag: &str, digest: &str) -> Error {
    Error::config(format!("`{tag}` is a tag, which may refer to another image at any time"))
        .with_hint(format!(
            "name the image by its digest: `{}@{digest}`",
            registry.reference.name()
        ))
}
