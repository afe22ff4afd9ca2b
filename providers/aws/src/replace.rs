//! Replaces an image that has the requested name. Names are unique in a region of an account and cannot be changed, so
//! the old image is deregistered when everything else is finished and verified, and the new one is registered at once: no
//! image has the name for about a second. Images in use keep working; they are found by id.
//!
//! Two kinds of resources are recorded before, for every region:
//!
//! 1. [`DEREGISTERED`], a deliverable: the old image with all its attributes. Its undo registers the image again from its
//!    snapshots, under another id. The host drops it when the build is released.
//! 2. [`REPLACED`], an intermediate: a snapshot of the old image. It is deleted after the release. As long as
//!    [`DEREGISTERED`] of the same image is open too, nothing was released and nothing is deleted.

use std::time::Duration;

use build_image_plugin_api::{
    Context, Error, ErrorKind, Resource, Result,
    document::{DiscardReason, DiscardRequest},
    retry::{Failure, Policy},
};
use serde::{Deserialize, Serialize};

use crate::{
    client::CALL,
    discard::LATE,
    ec2::{Ec2, Parameters, pairs, tag_specifications},
    image::{Image, Snapshot},
    marks::{self, MARK},
    owner::Owner,
    permissions::Call,
    sharing::{self, Permission},
    state::{DEREGISTERED, REPLACED},
};

/// Number of looks at an image whose deregistration may still be served.
const LOOKS: u32 = 4;
/// Attribute with the document of the old image.
const DOCUMENT: &str = "image";
/// Attribute with the id of the old image.
const OLD: &str = "old_image";

/// An old image with what belongs to it.
/// How long a build can be undone although its host is lost.
const UNDO: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Old {
    image: Image,
    permissions: Vec<Permission>,
    /// Base64 of the variables of UEFI.
    #[serde(default)]
    uefi_data: Option<String>,
}

/// Base64 of the variables of UEFI that an image has; no list of images shows them.
async fn uefi_data(ec2: &Ec2, id: &str, policy: &Policy) -> Result<Option<String>, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "uefiData", default)]
        data: Text,
    }

    #[derive(Default, Deserialize)]
    struct Text {
        value: Option<String>,
    }

    let parameters = pairs(&[("ImageId", id), ("Attribute", "uefiData")]);
    let object = format!("image `{id}`");
    let answer: Answer =
        ec2.ask(Call::DescribeImageAttribute, &parameters, &object, policy).await?;
    Ok(answer.data.value.filter(|value| !value.is_empty()))
}

/// What changes the name of an image.
pub(crate) struct Swap<'a> {
    pub(crate) context: &'a Context,
    pub(crate) ec2: &'a Ec2,
    pub(crate) owner: &'a Owner,
    pub(crate) run: &'a str,
    pub(crate) name: &'a str,
}

impl Swap<'_> {
    /// Returns the images of the account that have the name and are not of this run.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn others(&self) -> Result<Vec<Image>> {
        let mut found = self.ec2.images_with("name", self.name, &CALL).await?;
        found.retain(|image| image.name == self.name && !image.is_of(self.run));
        Ok(found)
    }

    /// Returns the image of this run that has the name.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn ours(&self) -> Result<Option<Image>> {
        let found = self.ec2.images_with("name", self.name, &CALL).await?;
        Ok(found.into_iter().find(|image| image.name == self.name && image.is_of(self.run)))
    }

    /// Records the old images and deregisters them. The next call gives the name to the new one. Returns the records.
    ///
    /// # Errors
    /// Refusals; the undo of what is recorded registers the images again.
    pub(crate) async fn free_name(&self, old: &[Image]) -> Result<Vec<Resource>> {
        let mut records = Vec::new();
        for image in old {
            let permissions = sharing::permissions(self.ec2, &image.image_id, &CALL).await?;
            let uefi_data = uefi_data(self.ec2, &image.image_id, &CALL).await?;
            let manifests = self.ec2.manifests_of(image, &CALL).await?;
            self.context.check_cancelled()?;
            let old = Old { image: image.clone(), permissions, uefi_data };
            records.extend(self.record(&old, &manifests)?);
        }
        for image in old {
            self.claim(image).await;
            // Dropped by Ctrl-C, the request could be served after the undo has seen the image.
            let call = self.ec2.deregister(&image.image_id, &CALL);
            if let Err(failure) = self.context.until_answered(call).await {
                self.restore(records).await;
                return Err(failure.into());
            }
        }
        Ok(records)
    }

    /// Registers the images of these records again, since the new one could not be registered. What fails remains
    /// recorded, for `discard`.
    pub(crate) async fn restore(&self, records: Vec<Resource>) {
        for record in records {
            let restored = match record.kind.as_str() {
                DEREGISTERED => register_again(self.context, self.ec2, &record, &CALL).await,
                _ => Ok(()),
            };
            let restored = restored.and_then(|()| self.context.gone(&record));
            if let Err(error) = restored {
                tracing::warn!(%error, "{} could not be restored yet", record.label());
                return;
            }
        }
    }

    /// Claims the snapshots of an old image of a build: for a time no other machine removes what the undo of this run needs.
    async fn claim(&self, image: &Image) {
        if image.run().is_none() {
            return;
        }
        let snapshots = image.snapshots();
        let ids: Vec<&str> = snapshots.iter().map(String::as_str).collect();
        let claim = marks::claim_for(UNDO, 0);
        // Another build may have removed them: that is not waited for.
        if let Err(failure) = self.ec2.tag(&ids, &claim, &Policy::BRIEF).await {
            tracing::warn!(error = %failure.error, "the snapshots of the old image are not claimed");
        }
    }

    fn record(&self, old: &Old, manifests: &[Snapshot]) -> Result<Vec<Resource>> {
        let document = serde_json::to_string(old).map_err(|error| {
            Error::internal("an image cannot be written down").caused_by(&error)
        })?;
        let id = &old.image.image_id;
        let made = |kind: &str, name: &str| {
            let resource = Resource::new(kind, name).in_region(&self.ec2.region);
            self.owner.mark(resource, self.run).with(OLD, id)
        };
        let name = format!("{} of {id}", self.name);
        let image = made(DEREGISTERED, &name).with_id(id).with(DOCUMENT, document);
        let manifests = manifests.iter().map(|manifest| manifest.snapshot_id.clone());
        let snapshots = old.image.snapshots().into_iter().chain(manifests);
        // The records that delete snapshots end before the one that needs them.
        let mut records: Vec<Resource> =
            snapshots.map(|snapshot| made(REPLACED, &snapshot).with_id(&snapshot)).collect();
        self.context.will_create(&image.clone().as_deliverable())?;
        for record in &records {
            self.context.will_create(record)?;
        }
        records.push(image.as_deliverable());
        Ok(records)
    }
}

/// Whether a resource is settled without a call: a snapshot whose image can still be registered again, and an image
/// whose name a released build has taken for good.
pub(crate) fn needs_no_call(request: &DiscardRequest, resource: &Resource) -> bool {
    let old = resource.attributes.get(OLD);
    match resource.kind.as_str() {
        DEREGISTERED => request.reason == DiscardReason::Done,
        REPLACED => request.resources.iter().any(|other| {
            other.kind == DEREGISTERED
                && other.region == resource.region
                && other.attributes.get(OLD) == old
                && request.reason != DiscardReason::Done
        }),
        _ => false,
    }
}

/// Registers a deregistered image again from its snapshots, with its tags, permissions, and deprecation date.
///
/// # Errors
/// Refusals; a conflict when another image has the name now.
pub(crate) async fn register_again(
    context: &Context,
    ec2: &Ec2,
    resource: &Resource,
    policy: &Policy,
) -> Result<()> {
    let document = resource.attributes.get(DOCUMENT).map_or("", String::as_str);
    let old: Old = serde_json::from_str(document).map_err(|error| {
        Error::internal(format!("the record of {} is malformed", resource.label()))
            .caused_by(&error)
    })?;
    let id = &old.image.image_id;
    if stays(ec2, id, policy).await? {
        return Ok(());
    }
    let name = &old.image.name;
    let mut tags = old.image.tags();
    tags.retain(|key, _| !key.starts_with("aws:"));
    let holders = ec2.images_with("name", name, policy).await?;
    let again = match holders.iter().find(|image| image.name == *name) {
        // An earlier undo ended before it was recorded.
        Some(image) if image.snapshots() == old.image.snapshots() => image.image_id.clone(),
        Some(other) => {
            let message = format!(
                "image `{name}` ({id}) is not registered again: image `{}` has its name",
                other.image_id
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        None => {
            let mut parameters: Parameters = old.image.parameters();
            parameters.extend(old.uefi_data.clone().map(|data| ("UefiData".to_owned(), data)));
            parameters
                .extend(tag_specifications(if tags.is_empty() { &[] } else { &["image"] }, &tags));
            ec2.make_image(Call::RegisterImage, &parameters, &format!("image `{name}`"), policy)
                .await?
        }
    };
    ec2.tag(&[&again], &tags, policy).await?;
    sharing::add(ec2, &again, &old.permissions, policy).await?;
    if let Some(date) = &old.image.deprecation_time {
        let parameters = pairs(&[("ImageId", &again), ("DeprecateAt", date)]);
        let object = format!("image `{again}`");
        // A date that has passed cannot be set again.
        if let Err(failure) =
            ec2.call(Call::EnableImageDeprecation, &parameters, &object, policy).await
        {
            tracing::warn!(error = %failure.error, "the deprecation date was not set again");
        }
    }
    let text = format!("image `{name}` ({id}) is registered again as {again}");
    // The image counts more than the line about it.
    let _ = context.milestone(text);
    Ok(())
}

/// Whether an image is there, also after requests to deregister it whose answers were not awaited.
async fn stays(ec2: &Ec2, id: &str, policy: &Policy) -> Result<bool> {
    for _ in 0..LOOKS {
        if ec2.image(id, policy).await?.is_none() {
            return Ok(false);
        }
        tokio::time::sleep(LATE).await;
    }
    Ok(ec2.image(id, policy).await?.is_some())
}

/// Deletes a snapshot of a replaced image, unless another image uses it.
///
/// # Errors
/// Refusals and broken connections.
pub(crate) async fn delete_replaced(ec2: &Ec2, resource: &Resource, policy: &Policy) -> Result<()> {
    let id = resource.id.as_deref().unwrap_or(&resource.name);
    // What another image uses stays.
    ec2.delete_unused(id, policy).await.map(drop)
}

/// The error for a name that another image has.
pub(crate) fn taken(image: &Image, region: &str) -> Error {
    let (name, id) = (&image.name, &image.image_id);
    let run = image.tags().get(MARK).map(|run| format!(", created by run {run}"));
    let message =
        format!("image `{name}` exists already in {region}: {id}{}", run.unwrap_or_default());
    Error::new(ErrorKind::Conflict, message).with_hint(format!(
        "choose another CLOUD_IMAGE_NAME, set AWS_IF_EXISTS=replace, or deregister it: aws ec2 deregister-image --region {region} --image-id {id}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_snapshot_is_never_deleted_while_its_image_can_be_registered_again() {
        let of = |kind: &str| Resource::new(kind, "x").in_region("eu-west-1").with(OLD, "ami-1");
        let (deregistered, snapshot) = (of(DEREGISTERED), of(REPLACED));
        let request = |reason, resources: &[&Resource]| {
            DiscardRequest::new(reason, resources.iter().map(|one| (*one).clone()))
        };
        for (reason, both, no_call) in [
            (DiscardReason::Failed, true, true),
            (DiscardReason::Leftover, true, true),
            (DiscardReason::Leftover, false, false),
            (DiscardReason::Done, false, false),
        ] {
            let all = if both { vec![&snapshot, &deregistered] } else { vec![&snapshot] };
            let found = needs_no_call(&request(reason, &all), &snapshot);
            assert_eq!(found, no_call, "{reason:?} {both}");
        }
        let elsewhere = deregistered.clone().in_region("eu-west-2");
        assert!(!needs_no_call(
            &request(DiscardReason::Failed, &[&snapshot, &elsewhere]),
            &snapshot
        ));
        assert!(needs_no_call(&request(DiscardReason::Done, &[&deregistered]), &deregistered));
        assert!(!needs_no_call(&request(DiscardReason::Failed, &[&deregistered]), &deregistered));
    }
}
