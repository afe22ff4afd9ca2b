//! Lists own images and snapshots by filters, which never fail for what does not exist, and changes who may use snapshots.
//!
//! Source: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImages.html>,
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSnapshots.html>.

use std::time::Duration;

use build_image_plugin_api::{
    Error, ErrorKind, Result,
    retry::{Backoff, Failure, Policy},
};
use serde::Deserialize;

use crate::{
    delta::MANIFEST_OF,
    ec2::{Ec2, Images, Items, Parameters, Snapshots, escaped, pairs},
    image::{Image, Snapshot},
    permissions::Call,
};

/// Most values of a filter that the service accepts.
const VALUES: usize = 200;
/// Most tags that are filtered by the service; the host applies all of them.
const MOST_TAGS: usize = 8;
/// Looks at a snapshot that the service holds to be in use; for some seconds after the deregistration it still does.
const LOOKS: u64 = 8;
/// Pauses between them.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(8));

/// A filter: its name, and values of which one must match.
pub(crate) type Filter = (String, Vec<String>);

/// Returns filters that match tags. An empty value stands for every value.
pub(crate) fn tag_filters<'a>(tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Filter> {
    let filter = |(key, value): (&str, &str)| match value {
        "" => ("tag-key".to_owned(), vec![escaped(key)]),
        value => (format!("tag:{key}"), vec![escaped(value)]),
    };
    tags.into_iter().take(MOST_TAGS).map(filter).collect()
}

#[derive(Deserialize)]
struct VolumePermissions {
    #[serde(rename = "createVolumePermission", default)]
    permissions: Items<VolumePermission>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct VolumePermission {
    user_id: Option<String>,
}

fn own(filters: &[Filter]) -> Parameters {
    let mut all = pairs(&[("Owner.1", "self")]);
    for (position, (name, values)) in filters.iter().enumerate() {
        let prefix = format!("Filter.{}", position + 1);
        all.push((format!("{prefix}.Name"), name.clone()));
        for (number, value) in values.iter().enumerate() {
            all.push((format!("{prefix}.Value.{}", number + 1), value.clone()));
        }
    }
    all
}

impl Ec2 {
    /// Returns own images that match all filters, in any state.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn own_images(
        &self,
        filters: &[Filter],
        policy: &Policy,
    ) -> Result<Vec<Image>, Failure> {
        let mut parameters = own(filters);
        parameters.extend(pairs(&[("IncludeDeprecated", "true"), ("IncludeDisabled", "true")]));
        let found = self.list::<Images>(Call::DescribeImages, &parameters, "", policy).await?;
        Ok(found.into_iter().filter(Image::exists).collect())
    }

    /// Returns own snapshots that match all filters.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn own_snapshots(
        &self,
        filters: &[Filter],
        policy: &Policy,
    ) -> Result<Vec<Snapshot>, Failure> {
        self.list::<Snapshots>(Call::DescribeSnapshots, &own(filters), "", policy).await
    }

    /// Returns own images with one of these values, as far as they exist: `image-id`, `block-device-mapping.snapshot-id`.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn images_by(
        &self,
        filter: &str,
        values: &[String],
        policy: &Policy,
    ) -> Result<Vec<Image>, Failure> {
        let mut found = Vec::new();
        for some in values.chunks(VALUES) {
            found.extend(self.own_images(&[(filter.to_owned(), some.to_vec())], policy).await?);
        }
        Ok(found)
    }

    /// Returns own snapshots with these identifiers, as far as they exist.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn snapshots_of(
        &self,
        ids: &[String],
        policy: &Policy,
    ) -> Result<Vec<Snapshot>, Failure> {
        let mut found = Vec::new();
        for some in ids.chunks(VALUES) {
            let filter = ("snapshot-id".to_owned(), some.to_vec());
            found.extend(self.own_snapshots(&[filter], policy).await?);
        }
        Ok(found)
    }

    /// Returns the manifests of the snapshots of an image: those that the run of the image has written.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn manifests_of(
        &self,
        image: &Image,
        policy: &Policy,
    ) -> Result<Vec<Snapshot>, Failure> {
        let snapshots = image.snapshots();
        if image.run().is_none() || snapshots.is_empty() {
            return Ok(Vec::new());
        }
        let filter = (format!("tag:{MANIFEST_OF}"), snapshots);
        let mut found = self.own_snapshots(&[filter], policy).await?;
        found.retain(|manifest| manifest.run() == image.run());
        Ok(found)
    }

    /// Returns the accounts that may make volumes from a snapshot.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn snapshot_users(
        &self,
        id: &str,
        policy: &Policy,
    ) -> Result<Vec<String>, Failure> {
        let parameters = pairs(&[("SnapshotId", id), ("Attribute", "createVolumePermission")]);
        let object = format!("snapshot `{id}`");
        let call = Call::DescribeSnapshotAttribute;
        let answer: VolumePermissions = self.ask(call, &parameters, &object, policy).await?;
        Ok(answer.permissions.item.into_iter().filter_map(|one| one.user_id).collect())
    }

    /// Adds or removes (`kind` is `Add` or `Remove`) accounts that may make volumes from a snapshot.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn change_snapshot_users(
        &self,
        id: &str,
        kind: &str,
        accounts: &[String],
        policy: &Policy,
    ) -> Result<(), Failure> {
        if accounts.is_empty() {
            return Ok(());
        }
        let mut parameters = pairs(&[("SnapshotId", id), ("Attribute", "createVolumePermission")]);
        for (position, account) in accounts.iter().enumerate() {
            let name = format!("CreateVolumePermission.{kind}.{}.UserId", position + 1);
            parameters.push((name, account.clone()));
        }
        let object = format!("snapshot `{id}`");
        self.call(Call::ModifySnapshotAttribute, &parameters, &object, policy).await.map(drop)
    }

    /// Removes tags.
    ///
    /// # Errors
    /// Refusals and broken connections.
    pub(crate) async fn untag(
        &self,
        ids: &[String],
        keys: &[String],
        policy: &Policy,
    ) -> Result<(), Failure> {
        if ids.is_empty() || keys.is_empty() {
            return Ok(());
        }
        let numbered = |name: &str, end: &str, values: &[String]| -> Parameters {
            let values = values.iter().enumerate();
            values.map(|(at, value)| (format!("{name}.{}{end}", at + 1), value.clone())).collect()
        };
        let mut parameters = numbered("ResourceId", "", ids);
        parameters.extend(numbered("Tag", ".Key", keys));
        let object = format!("`{}`", ids.join("`, `"));
        self.call(Call::DeleteTags, &parameters, &object, policy).await.map(drop)
    }

    /// Deletes a snapshot unless an image uses it; returns whether it is gone. One that is absent is.
    ///
    /// # Errors
    /// Refusals and broken connections; a snapshot that the service holds to be in use although no image uses it.
    pub(crate) async fn delete_unused(&self, id: &str, policy: &Policy) -> Result<bool> {
        for number in 1.. {
            let failure = match self.delete_snapshot(id, policy).await {
                Ok(()) => return Ok(true),
                Err(failure) if failure.has_code(&["InvalidSnapshot.InUse"]) => failure,
                Err(failure) => return Err(failure.into()),
            };
            let ids = [id.to_owned()];
            let users = self.images_by("block-device-mapping.snapshot-id", &ids, policy).await?;
            if let Some(image) = users.first() {
                tracing::info!(snapshot = id, image = image.image_id, "kept: an image uses it");
                return Ok(false);
            }
            if number >= LOOKS {
                let message =
                    format!("snapshot `{id}` is in use, and no image of the account uses it");
                let error = Error::new(ErrorKind::Conflict, message);
                let error = error.with_hint("delete it later, with the command for it");
                return Err(error.caused_by(&failure.error));
            }
            tokio::time::sleep(PAUSES.pause(number, None)).await;
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_numbered_and_literal() {
        let filters = tag_filters([("run", ""), ("team", "a*b")]);
        let expected = [
            ("Owner.1", "self"),
            ("Filter.1.Name", "tag-key"),
            ("Filter.1.Value.1", "run"),
            ("Filter.2.Name", "tag:team"),
            ("Filter.2.Value.1", "a\\*b"),
        ];
        assert_eq!(own(&filters), pairs(&expected));
    }
}
