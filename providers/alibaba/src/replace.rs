//! Replaces an image that has the requested name, and undoes the replacement.
//!
//! Two resources are recorded before the names are swapped, for every region:
//!
//! 1. [`RENAMED`], a deliverable: the old image was moved aside. Removing it gives the name back. The host
//!    drops it when the build is released.
//! 2. [`REPLACED`], an intermediate: the old image itself. The host removes it after the release. As long as
//!    [`RENAMED`] of the same image is open too, nothing was released and nothing is deleted.
//!
//! A clean-up works backwards, so [`REPLACED`] ends before the name is given back: if a process is killed in
//! between, no record that deletes the old image outlives the one that restores it.

use std::sync::Arc;

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource, Result,
    document::DiscardRequest,
    retry::{Failure, Policy},
};
use serde::{Deserialize, Serialize};

use crate::{
    client::CALL,
    config::Config,
    credentials::Credentials,
    ecs::Ecs,
    image::Image,
    import::beside,
    owner::Owner,
    removal::remove_image,
    snapshots::noted,
    state::{MOVED, RENAMED, REPLACED},
};

/// Parameter that holds an image's name.
pub(crate) const NAME: &str = "ImageName";

/// An image that was moved aside, or is about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    pub(crate) region: String,
    /// Id of the image that had the name.
    old: String,
    /// Name it is moved to; unique for its id.
    aside: String,
    /// Name that is swapped.
    wanted: String,
    /// Id of the image that receives the name.
    new: String,
    /// Name the new image has until then.
    new_name: String,
    /// Snapshots of the old image.
    snapshots: Vec<String>,
    owner: Owner,
}

impl Moved {
    pub(crate) fn new(region: &str, old: &Image, new: &Image, wanted: &str, owner: Owner) -> Self {
        Self {
            region: region.to_owned(),
            old: old.image_id.clone(),
            aside: beside(wanted, "old", &old.image_id),
            wanted: wanted.to_owned(),
            new: new.image_id.clone(),
            new_name: new.image_name.clone(),
            snapshots: old.snapshots(),
            owner,
        }
    }

    fn renamed(&self) -> Resource {
        let name = format!("{} of {}", self.wanted, self.old);
        self.owner
            .of_region(Resource::new(RENAMED, name).in_region(&self.region))
            .with_id(&self.old)
            .with("name", &self.wanted)
            .with("aside", &self.aside)
            .with("new_image", &self.new)
            .with("new_name", &self.new_name)
            .as_deliverable()
    }

    fn replaced(&self) -> Resource {
        let resource = self
            .owner
            .of_region(Resource::new(REPLACED, &self.aside).in_region(&self.region))
            .with_id(&self.old)
            .with("name", &self.wanted)
            .with("aside", &self.aside)
            .with("new_image", &self.new);
        noted(resource, &self.snapshots)
    }

    /// Moves the old image aside and gives its name to the new one. Both resources are on disk before; Ctrl-C
    /// has no effect between the two calls.
    ///
    /// # Errors
    /// Refusals. [`undo`] restores the names.
    pub(crate) fn swap(&self, context: &Context, ecs: &Ecs) -> Result<()> {
        let mut all: Vec<Self> = context.load(MOVED)?.unwrap_or_default();
        all.retain(|known| (&known.region, &known.old) != (&self.region, &self.old));
        all.push(self.clone());
        context.save(MOVED, &all)?;
        context.will_create(&self.renamed())?;
        context.will_create(&self.replaced())?;
        context.check_cancelled()?;
        to_the_end(async {
            ecs.modify_image(&self.old, &[(NAME, &self.aside)], &CALL).await?;
            Ok(ecs.modify_image(&self.new, &[(NAME, &self.wanted)], &CALL).await?)
        })
    }
}

/// Runs a future to completion, even when a stop was requested: the service may still carry out a call whose
/// future is dropped.
///
/// # Errors
/// Those of the future, or an internal one when no runtime can be created.
pub(crate) fn to_the_end<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Error::internal("cannot prepare requests to the cloud").caused_by(&error)
    })?;
    runtime.block_on(future)
}

/// Restores the name of every image that this run moved aside. Returns whether all names are restored; names
/// that cannot be restored now remain recorded, for `discard`.
///
/// # Errors
/// When the record cannot be written.
pub(crate) fn undo(
    context: &Context,
    config: &Config,
    credentials: &Arc<Credentials>,
) -> Result<bool> {
    let mut left: Vec<Moved> = context.load(MOVED)?.unwrap_or_default();
    for moved in left.clone().iter().rev() {
        let restored = Ecs::of_region(config, &moved.region, credentials).and_then(|ecs| {
            to_the_end(async { Ok(give_name_back(&ecs, &moved.renamed(), &CALL).await?) })
        });
        if let Err(error) = restored {
            tracing::warn!(image = moved.old, %error, "the name could not be given back yet");
            continue;
        }
        context.gone(&moved.replaced())?;
        context.gone(&moved.renamed())?;
        left.retain(|known| known != moved);
        context.save(MOVED, &left)?;
    }
    Ok(left.is_empty())
}

fn attribute<'a>(resource: &'a Resource, name: &str) -> &'a str {
    resource.attributes.get(name).map_or("", String::as_str)
}

/// The name that is swapped. Journals of earlier versions have it as the resource's name.
pub(crate) fn wanted_name(resource: &Resource) -> &str {
    resource.attributes.get("name").unwrap_or(&resource.name)
}

/// Restores the name of an image that was moved aside. The new image may already have the name; it failed, so
/// it returns to the name it was made under. When the old image cannot have its name, the new one keeps it.
pub(crate) async fn give_name_back(
    ecs: &Ecs,
    resource: &Resource,
    policy: &Policy,
) -> Result<(), Failure> {
    let Some(old) = resource.id.as_deref() else { return Ok(()) };
    let (wanted, new) = (wanted_name(resource), attribute(resource, "new_image"));
    let Some(image) = ecs.image(old, policy).await? else { return Ok(()) };
    if image.image_name != attribute(resource, "aside") {
        return Ok(());
    }
    let holders = ecs.images_named(wanted, policy).await?;
    if let Some(other) = holders.iter().find(|image| image.image_id != new) {
        let message = format!(
            "image `{old}` stays as `{}`: `{wanted}` is the name of image `{}` now",
            image.image_name, other.image_id
        );
        return Err(Failure::stop(Error::new(ErrorKind::Conflict, message)));
    }
    let swapped = !holders.is_empty();
    if swapped {
        let back = attribute(resource, "new_name");
        ecs.modify_image(new, &[(NAME, back)], policy).await?;
    }
    let restored = ecs.modify_image(old, &[(NAME, wanted)], policy).await;
    if restored.is_err() && swapped {
        let _ = ecs.modify_image(new, &[(NAME, wanted)], policy).await;
    }
    restored
}

/// Whether the name swap that a replaced image belongs to is still open in the request.
pub(crate) fn is_open(request: &DiscardRequest, replaced: &Resource) -> bool {
    request.resources.iter().any(|other| {
        (other.kind.as_str(), &other.region, &other.id) == (RENAMED, &replaced.region, &replaced.id)
    })
}

/// Deletes a replaced image with its snapshots, if it still has the name it was moved to and the new image
/// has its former name. An image with any other name belongs to the user again.
pub(crate) async fn remove_replaced(
    journal: &Context,
    ecs: &Ecs,
    resource: &Resource,
    policy: &Policy,
) -> Result<(), Failure> {
    let old = resource.id.as_deref().unwrap_or_default();
    if let Some(image) = ecs.image(old, policy).await? {
        if image.image_name != attribute(resource, "aside") {
            return Ok(());
        }
        let (wanted, new) = (wanted_name(resource), attribute(resource, "new_image"));
        let holders = ecs.images_named(wanted, policy).await?;
        if !holders.iter().any(|image| image.image_id == new) {
            let message = format!(
                "the replaced image `{old}` stays as `{}`: `{wanted}` is not the name of image `{new}`",
                image.image_name
            );
            return Err(Failure::stop(Error::new(ErrorKind::Conflict, message)));
        }
    }
    remove_image(journal, ecs, resource, "", policy).await
}
