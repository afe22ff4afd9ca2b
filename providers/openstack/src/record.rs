//! The image of a run: its identifier is chosen here and journaled before the record is created, so that an undo finds
//! it even when the answer of the service was lost.

use build_image_plugin_api::{Context, Error, ErrorKind, Resource, Result, document::Build, retry};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    cloud::{Cloud, HASHES},
    config::Config,
    disk,
    image::{Image, RUN},
    marks,
    owner::Owner,
    stream::Sent,
};

/// Checkpoint with the image of the run.
pub(crate) const STARTED: &str = "image";
/// Kind of the resource.
pub(crate) const IMAGE: &str = "image";
/// Attribute with the run that created it.
pub(crate) const RUN_ID: &str = "run";

/// The image of a run, as the checkpoint stores it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) owner: Owner,
    /// Identity of the disk that is sent.
    pub(crate) disk: String,
    /// Set when the service has received everything, before it is processed.
    pub(crate) sent: Option<Sent>,
}

impl Started {
    /// Returns the resource for the journal.
    pub(crate) fn resource(&self, cloud: &Cloud, run: &str) -> Resource {
        let resource =
            Resource::new(IMAGE, &self.id).with("image_name", &self.name).with(RUN_ID, run);
        let resource = match &cloud.region {
            Some(region) => resource.in_region(region),
            None => resource,
        };
        self.owner.mark(resource).as_deliverable()
    }

    /// Returns the image of an earlier process of the run, if there is one.
    ///
    /// # Errors
    /// Config error for an image of another project or cloud.
    pub(crate) fn earlier(context: &Context, cloud: &Cloud) -> Result<Option<Self>> {
        let Some(started) = context.load::<Self>(STARTED)? else { return Ok(None) };
        Owner::now(cloud)
            .may_use(&format!("image `{}` of this run", started.id), &started.owner)?;
        Ok(Some(started))
    }
}

/// Creates a record without data, private and hidden until the image is published.
///
/// # Errors
/// Refusals; [`Error::cancelled`].
pub(crate) async fn create(
    context: &Context,
    cloud: &Cloud,
    config: &Config,
    build: &Build,
    identity: &str,
) -> Result<Started> {
    let started = Started {
        id: new_id(),
        name: build.image_name.clone(),
        owner: Owner::now(cloud),
        disk: identity.to_owned(),
        sent: None,
    };
    let resource = started.resource(cloud, &build.run_id);
    context.check_cancelled()?;
    context.will_create(&resource)?;
    context.save(STARTED, &started)?;
    context.check_cancelled()?;
    let document = document(cloud, config, build, &started.id);
    let created = context.until_answered(cloud.create_image(&document)).await;
    match created {
        Ok(_) => context.created(&resource.with_id(&started.id))?,
        // An earlier attempt was answered, but the answer was lost.
        Err(failure) if failure.has_status(409) && is_ours(cloud, &started.id, build).await? => {
            context.created(&resource.with_id(&started.id))?;
        }
        Err(failure) => {
            // Refused without another attempt: nothing was created.
            if failure.status.is_some_and(|status| status < 500)
                && failure.error.context("attempts").is_none()
            {
                context.gone(&resource)?;
            }
            return Err(failure.into());
        }
    }
    Ok(started)
}

async fn is_ours(cloud: &Cloud, id: &str, build: &Build) -> Result<bool> {
    Ok(cloud
        .image(id)
        .await?
        .is_some_and(|image| image.belongs_to(&build.run_id, &cloud.project())))
}

fn document(cloud: &Cloud, config: &Config, build: &Build, id: &str) -> Value {
    let mut document = json!({
        "id": id,
        "name": build.image_name,
        "disk_format": disk::word(&config.disk),
        "container_format": "bare",
        "visibility": "private",
        "min_disk": config.wanted.min_disk(build.virtual_size),
        "min_ram": config.wanted.min_ram(),
    });
    for (name, value) in marks::of(build, id, marks::now()) {
        document[name] = value.into();
    }
    if cloud.minor_version >= HASHES {
        document["os_hidden"] = true.into();
    }
    for (name, value) in config.wanted.properties(build, &config.disk) {
        document[name] = value.into();
    }
    document
}

/// Removes a record that cannot be used any more, before another one is created.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn abandon(
    context: &Context,
    cloud: &Cloud,
    started: &Started,
    run: &str,
) -> Result<()> {
    if let Some(image) = cloud.image(&started.id).await? {
        if !image.belongs_to(run, &cloud.project()) {
            return Err(foreign(&image));
        }
        cloud.delete_image(&started.id).await?;
    }
    context.gone(&started.resource(cloud, run).with_id(&started.id))
}

/// The error for an image that does not carry the mark of the run.
pub(crate) fn foreign(image: &Image) -> Error {
    let message =
        format!("image `{}` is not that of this run: its property `{RUN}` differs", image.id());
    Error::new(ErrorKind::Conflict, message)
        .with_hint("leave the image alone, and build again in a new run")
}

/// Returns a random identifier (RFC 9562, version 4).
fn new_id() -> String {
    let (high, low) = (retry::random(), retry::random());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        ((low >> 48) & 0x3fff) | 0x8000,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn identifiers_are_uuids_and_differ() {
        let ids: BTreeSet<String> = (0..1000).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let lengths: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
            assert!(id.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-'));
            assert_eq!(&id[14..15], "4");
            assert!("89ab".contains(&id[19..20]), "{id}");
        }
    }
}
