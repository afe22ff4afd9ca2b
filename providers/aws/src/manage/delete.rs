//! Deletes images with their snapshots.
//!
//! The snapshots are marked with their image before it is deregistered: when the call ends in between, a second one finds
//! them by that mark.
//!
//! Source: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeregisterImage.html>.

use build_image_plugin_api::{Error, ErrorKind, Result, document::Reference};

use super::{Done, Manager, Target, count};
use crate::{
    client::CALL,
    ec2::{Ec2, pairs},
    image::Snapshot,
    listing::tag_filters,
    marks::{self, IMAGE_OF, KEPT},
    permissions::Call,
    sharing,
};

impl Manager<'_> {
    /// Deletes an image, and what an earlier call left of it.
    pub(super) async fn delete(&self, reference: &Reference, keep_data: bool, force: bool) -> Done {
        let ec2 = self.ec2_of(reference)?;
        let Some(image) = self.find(&ec2, &reference.id).await? else {
            return self.delete_rest(&ec2, &reference.id).await;
        };
        let target = Target { ec2, image };
        self.check(&target, force).await?;
        let all = target.image.snapshots().len();
        let own = self.own_snapshots(&target).await?;
        let ids = |all: Vec<Snapshot>| all.into_iter().map(|one| one.snapshot_id);
        let own: Vec<String> = ids(own).collect();
        let manifests: Vec<String> =
            ids(target.ec2.manifests_of(&target.image, &CALL).await?).collect();
        self.remove(&target, &[&own[..], &manifests].concat(), keep_data).await?;
        let mut removed = 0;
        if !keep_data && !self.request.dry_run {
            removed = delete_snapshots(&target.ec2, &own).await?;
            delete_snapshots(&target.ec2, &manifests).await?;
        }
        let expected = if keep_data { 0 } else { own.len() };
        let shown = if self.request.dry_run { expected } else { removed };
        let kept = if keep_data { 0 } else { all - shown };
        let mut text = match shown {
            0 => "deleted".to_owned(),
            number => format!("deleted with {}", count(number, "snapshot")),
        };
        if kept > 0 {
            text.push_str(&format!(", kept {} that others use", count(kept, "snapshot")));
        }
        Ok(Some(text))
    }

    /// Refuses what needs `force`, and what the service would refuse.
    async fn check(&self, target: &Target, force: bool) -> Result<()> {
        let Target { ec2, image } = target;
        let (id, region) = (&image.image_id, &ec2.region);
        let conflict = |message: String, hint: String| {
            Err(Error::new(ErrorKind::Conflict, message).with_hint(hint))
        };
        if image.is_pending() {
            return conflict(
                format!("image `{id}` is being made"),
                "wait until it is available, or remove the run with gc".to_owned(),
            );
        }
        if force {
            return Ok(());
        }
        let protection = image.deregistration_protection.as_deref().unwrap_or_default();
        if protection.starts_with("enabled") {
            return conflict(
                format!("image `{id}` is protected from deregistration ({protection})"),
                format!(
                    "force it, or run: aws ec2 disable-image-deregistration-protection --region {region} --image-id {id}"
                ),
            );
        }
        let permissions = sharing::permissions(ec2, id, &CALL).await?;
        let used = match sharing::members(&permissions).len() {
            _ if sharing::is_public(&permissions) => "public".to_owned(),
            0 => return Ok(()),
            number => format!("shared with {}", count(number, "account")),
        };
        conflict(format!("image `{id}` is {used}"), "withdraw that first, or force it".to_owned())
    }

    /// Deregisters an image, after marking its snapshots.
    async fn remove(&self, target: &Target, own: &[String], keep_data: bool) -> Result<()> {
        let Target { ec2, image } = target;
        let id = &image.image_id;
        let protection = image.deregistration_protection.as_deref().unwrap_or_default();
        if protection.starts_with("enabled") {
            let call = Call::DisableImageDeregistrationProtection;
            self.send(ec2, call, pairs(&[("ImageId", id)]), &target.object()).await?;
        }
        if !self.request.dry_run && image.run().is_some() {
            let mut mark = marks::tags([(IMAGE_OF, id)]);
            mark.extend(keep_data.then(|| (KEPT.to_owned(), "yes".to_owned())));
            let ids: Vec<&str> = own.iter().map(String::as_str).collect();
            ec2.tag(&ids, &mark, &CALL).await?;
        }
        let (named, object) = (pairs(&[("ImageId", id)]), target.object());
        match self.send(ec2, Call::DeregisterImage, named, &object).await {
            // Another client was faster.
            Err(failure) if crate::ec2::is_absent(&failure) => Ok(()),
            Err(failure)
                if protection.contains("cooldown") || protection.starts_with("enabled") =>
            {
                let error = Error::from(failure);
                let hint = "deregistration protection with a cool-down lasts 24 hours after it was disabled: delete the image again then";
                Err(error.with_hint(hint))
            }
            sent => Ok(sent?),
        }
    }

    /// Deletes the snapshots of an image that is deregistered.
    async fn delete_rest(&self, ec2: &Ec2, id: &str) -> Done {
        let left = ec2.own_snapshots(&tag_filters([(IMAGE_OF, id)]), &CALL).await?.into_iter();
        let left = left.filter(|snapshot| snapshot.run().is_some() && snapshot.tag(KEPT).is_none());
        let ids: Vec<String> = left.map(|snapshot| snapshot.snapshot_id).collect();
        let users = ec2.images_by("block-device-mapping.snapshot-id", &ids, &CALL).await?;
        let is_used = |id: &&String| users.iter().any(|image| image.snapshots().contains(id));
        let ids: Vec<String> = ids.iter().filter(|id| !is_used(id)).cloned().collect();
        if ids.is_empty() {
            return Ok(None);
        }
        if !self.request.dry_run {
            delete_snapshots(ec2, &ids).await?;
        }
        Ok(Some(format!("{} of the deleted image deleted", count(ids.len(), "snapshot"))))
    }
}

/// Deletes snapshots unless an image uses them; returns how many are gone.
async fn delete_snapshots(ec2: &Ec2, ids: &[String]) -> Result<usize> {
    let mut gone = 0;
    for id in ids {
        gone += usize::from(ec2.delete_unused(id, &CALL).await?);
    }
    Ok(gone)
}
