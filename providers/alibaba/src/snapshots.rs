//! Finds the snapshots of images: they are billed and remain when their image is removed. They are recorded
//! as soon as they are known; those of an import whose answer was lost are found by their name and creation
//! time.
//!
//! Source: ECS API documentation, `DescribeSnapshots` and `DeleteSnapshot`. It is not documented that the
//! snapshot of an imported image is called `SnapshotForImage-` followed by the image's name, but other
//! clients rely on it; hence name, time, and use must all match.

use build_image_plugin_api::{
    ErrorKind, Resource,
    retry::{Failure, Policy},
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::ecs::{Ecs, PAGE_SIZE, pairs};

/// Attribute of an image: identifiers of its snapshots.
const IDS: &str = "snapshots";
/// Attribute of an imported image: none of its resources is older.
pub(crate) const SINCE: &str = "since";
/// Prefix of the names of snapshots that an import creates.
const NAME: &str = "SnapshotForImage-";
/// Tolerated error when reading the service's clock.
const SLACK: SignedDuration = SignedDuration::from_secs(5);

/// A snapshot as it is listed.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Snapshot {
    snapshot_id: String,
    snapshot_name: String,
    creation_time: String,
    /// `image`, `disk`, `image_disk` or `none`.
    usage: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SnapshotList {
    #[serde(rename = "Snapshot")]
    list: Vec<Snapshot>,
}

#[derive(Deserialize)]
struct Snapshots {
    #[serde(rename = "Snapshots", default)]
    snapshots: SnapshotList,
    #[serde(rename = "TotalCount", default)]
    total: usize,
}

/// The resource with the snapshots that belong to it.
pub(crate) fn noted(resource: Resource, ids: &[String]) -> Resource {
    if ids.is_empty() { resource } else { resource.with(IDS, ids.join(",")) }
}

/// The snapshots that were recorded for a resource.
pub(crate) fn known(resource: &Resource) -> Vec<String> {
    let text = resource.attributes.get(IDS).map_or("", String::as_str);
    text.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect()
}

impl Ecs {
    /// The current time by the service's clock, reduced by a tolerance: resources created from now on are not
    /// older.
    pub(crate) fn not_before(&self) -> String {
        let skew = SignedDuration::from_secs(self.service.http.clock.skew());
        let now = Timestamp::now();
        let then = now.checked_add(skew).and_then(|then| then.checked_sub(SLACK)).unwrap_or(now);
        then.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// Snapshots of an import whose image no longer exists and never reported its snapshots: named after the
    /// image, created since the import was requested, used by nothing.
    ///
    /// # Errors
    /// Refusals; a user without the right to list finds none.
    pub(crate) async fn orphans(
        &self,
        resource: &Resource,
        policy: &Policy,
    ) -> Result<Vec<String>, Failure> {
        let since = resource.attributes.get(SINCE).and_then(|text| text.parse::<Timestamp>().ok());
        let Some(since) = since else { return Ok(Vec::new()) };
        let name = format!("{NAME}{}", resource.name);
        let listed = match self.snapshots(&name, policy).await {
            Err(failure) if failure.error.kind == ErrorKind::Auth => {
                tracing::warn!(error = %failure.error, "snapshots cannot be looked for");
                return Ok(Vec::new());
            }
            listed => listed?,
        };
        let ours = |snapshot: &Snapshot| {
            let made = snapshot.creation_time.parse::<Timestamp>();
            snapshot.snapshot_name == name
                && matches!(snapshot.usage.as_str(), "" | "none")
                && made.is_ok_and(|made| made >= since)
        };
        Ok(listed.into_iter().filter(ours).map(|snapshot| snapshot.snapshot_id).collect())
    }

    async fn snapshots(&self, name: &str, policy: &Policy) -> Result<Vec<Snapshot>, Failure> {
        let mut found = Vec::new();
        for page in 1_usize.. {
            let parameters = pairs(&[
                ("RegionId", &self.region),
                ("SnapshotName", name),
                ("PageSize", &PAGE_SIZE.to_string()),
                ("PageNumber", &page.to_string()),
            ]);
            let what = format!("snapshot `{name}`");
            let listed: Snapshots =
                self.service.call("DescribeSnapshots", &parameters, &what, policy).await?;
            let count = listed.snapshots.list.len();
            found.extend(listed.snapshots.list);
            if count == 0 || page * PAGE_SIZE >= listed.total {
                break;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_written_down_with_their_image() {
        let image = Resource::new("image", "a");
        assert!(known(&image).is_empty());
        assert_eq!(noted(image.clone(), &[]), image);
        let ids = ["s-1".to_owned(), "s-2".to_owned()];
        assert_eq!(known(&noted(image, &ids)), ids);
    }
}
