//! ECS images, tasks, tags and shares: one function per operation that is used.
//!
//! Source: ECS API documentation, version 2014-05-26.

use std::sync::Arc;

use build_image_plugin_api::Result;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    acs::{Parameters, Service},
    config::Place,
    credentials::Credentials,
    error::Failure,
    retry::Policy,
};

/// States an image may be in; unnamed, the service lists only available ones.
const ALL_STATES: &str = "Creating,Waiting,Available,UnAvailable,CreateFailed,Deprecated";
/// Accounts a share call takes; further ones would be dropped silently.
pub(crate) const SHARE_GROUP: usize = 10;
const PAGE_SIZE: usize = 100;

/// The image half of ECS in one region.
pub(crate) struct Ecs {
    pub(crate) service: Service,
    pub(crate) region: String,
}

/// What `ImportImage` answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Imported {
    pub(crate) image_id: String,
    #[serde(default)]
    pub(crate) task_id: Option<String>,
}

/// An image as it is listed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Image {
    pub(crate) image_id: String,
    pub(crate) image_name: String,
    pub(crate) status: String,
    pub(crate) progress: String,
    #[serde(rename = "DiskDeviceMappings")]
    disks: DiskMappings,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct DiskMappings {
    #[serde(rename = "DiskDeviceMapping")]
    list: Vec<DiskMapping>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct DiskMapping {
    #[serde(rename = "SnapshotId")]
    snapshot_id: String,
    #[serde(rename = "ImportOSSBucket")]
    bucket: String,
    #[serde(rename = "ImportOSSObject")]
    object: String,
}

impl Image {
    /// Snapshots behind the image's disks.
    pub(crate) fn snapshots(&self) -> Vec<String> {
        let ids = self.disks.list.iter().map(|disk| disk.snapshot_id.clone());
        ids.filter(|id| !id.is_empty()).collect()
    }

    /// Whether it was imported from this object.
    pub(crate) fn comes_from(&self, bucket: &str, key: &str) -> bool {
        self.disks.list.iter().any(|disk| disk.bucket == bucket && disk.object == key)
    }
}

/// A task as `DescribeTaskAttribute` shows it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Task {
    pub(crate) task_status: String,
    pub(crate) task_process: String,
    pub(crate) failed_count: Value,
    operation_progress_set: ProgressSet,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ProgressSet {
    #[serde(rename = "OperationProgress")]
    list: Vec<Operation>,
}

/// One part of a task.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Operation {
    pub(crate) operation_status: String,
    pub(crate) error_code: String,
    pub(crate) error_msg: String,
}

impl Task {
    /// Its parts.
    pub(crate) fn operations(&self) -> &[Operation] {
        &self.operation_progress_set.list
    }
}

#[derive(Deserialize)]
struct Images {
    #[serde(rename = "Images", default)]
    images: ImageList,
    #[serde(rename = "TotalCount", default)]
    total: usize,
}

#[derive(Default, Deserialize)]
struct ImageList {
    #[serde(rename = "Image", default)]
    list: Vec<Image>,
}

fn pairs(list: &[(&str, &str)]) -> Parameters {
    list.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Ecs {
    /// ECS of a place.
    ///
    /// # Errors
    /// When no connections can be made at all.
    pub(crate) fn open(place: &Place, credentials: Arc<Credentials>) -> Result<Self> {
        let service = Service::open(&place.ecs, "2014-05-26", credentials)?;
        Ok(Self { service, region: place.region.clone() })
    }

    async fn images(&self, filter: (&str, &str), policy: &Policy) -> Result<Vec<Image>, Failure> {
        let mut found = Vec::new();
        for page in 1_usize.. {
            let mut parameters = pairs(&[
                ("RegionId", &self.region),
                ("ImageOwnerAlias", "self"),
                ("Status", ALL_STATES),
                ("PageSize", &PAGE_SIZE.to_string()),
                ("PageNumber", &page.to_string()),
            ]);
            parameters.push((filter.0.to_owned(), filter.1.to_owned()));
            let what = format!("image `{}`", filter.1);
            let listed: Images =
                self.service.call("DescribeImages", &parameters, &what, policy).await?;
            let count = listed.images.list.len();
            found.extend(listed.images.list);
            if count == 0 || page * PAGE_SIZE >= listed.total {
                break;
            }
        }
        Ok(found)
    }

    /// Own images with exactly this name, in any state. (The service itself matches loosely.)
    pub(crate) async fn images_named(
        &self,
        name: &str,
        policy: &Policy,
    ) -> Result<Vec<Image>, Failure> {
        let mut found = self.images(("ImageName", name), policy).await?;
        found.retain(|image| image.image_name == name);
        Ok(found)
    }

    /// The own image with this id, in any state.
    pub(crate) async fn image(&self, id: &str, policy: &Policy) -> Result<Option<Image>, Failure> {
        let found = self.images(("ImageId", id), policy).await?;
        Ok(found.into_iter().find(|image| image.image_id == id))
    }

    /// Starts an import.
    pub(crate) async fn import_image(
        &self,
        parameters: &Parameters,
        policy: &Policy,
    ) -> Result<Imported, Failure> {
        self.service.call("ImportImage", parameters, "the uploaded disk", policy).await
    }

    /// Looks at a task.
    pub(crate) async fn task(&self, id: &str, policy: &Policy) -> Result<Task, Failure> {
        let parameters = pairs(&[("RegionId", &self.region), ("TaskId", id)]);
        let what = format!("task `{id}`");
        self.service.call("DescribeTaskAttribute", &parameters, &what, policy).await
    }

    /// Stops a task.
    pub(crate) async fn cancel_task(&self, id: &str, policy: &Policy) -> Result<(), Failure> {
        let parameters = pairs(&[("RegionId", &self.region), ("TaskId", id)]);
        let what = format!("task `{id}`");
        self.service.call::<Value>("CancelTask", &parameters, &what, policy).await.map(|_| ())
    }

    /// Deletes an image; it is gone some time later.
    pub(crate) async fn delete_image(&self, id: &str, policy: &Policy) -> Result<(), Failure> {
        let parameters = pairs(&[("RegionId", &self.region), ("ImageId", id)]);
        let what = format!("image `{id}`");
        self.service.call::<Value>("DeleteImage", &parameters, &what, policy).await.map(|_| ())
    }

    /// Deletes a snapshot.
    pub(crate) async fn delete_snapshot(&self, id: &str, policy: &Policy) -> Result<(), Failure> {
        let parameters =
            pairs(&[("RegionId", &self.region), ("SnapshotId", id), ("Force", "true")]);
        let what = format!("snapshot `{id}`");
        self.service.call::<Value>("DeleteSnapshot", &parameters, &what, policy).await.map(|_| ())
    }

    /// Tags resources of one type (`image`, `snapshot`).
    pub(crate) async fn tag(
        &self,
        resource_type: &str,
        ids: &[String],
        tags: &Parameters,
        policy: &Policy,
    ) -> Result<(), Failure> {
        let mut parameters = pairs(&[("RegionId", &self.region), ("ResourceType", resource_type)]);
        for (position, id) in ids.iter().enumerate() {
            parameters.push((format!("ResourceId.{}", position + 1), id.clone()));
        }
        parameters.extend(tags.iter().cloned());
        let what = format!("{resource_type} `{}`", ids.join("`, `"));
        self.service.call::<Value>("TagResources", &parameters, &what, policy).await.map(|_| ())
    }

    /// Shares an image with at most [`SHARE_GROUP`] accounts.
    pub(crate) async fn share(
        &self,
        image: &str,
        accounts: &[String],
        policy: &Policy,
    ) -> Result<(), Failure> {
        let mut parameters = pairs(&[("RegionId", &self.region), ("ImageId", image)]);
        for (position, account) in accounts.iter().enumerate() {
            parameters.push((format!("AddAccount.{}", position + 1), account.clone()));
        }
        let what = format!("image `{image}`");
        let action = "ModifyImageSharePermission";
        self.service.call::<Value>(action, &parameters, &what, policy).await.map(|_| ())
    }

    /// Accounts an image is shared with, over all pages.
    pub(crate) async fn shares(
        &self,
        image: &str,
        policy: &Policy,
    ) -> Result<Vec<String>, Failure> {
        let mut found = Vec::new();
        for page in 1_usize.. {
            let parameters = pairs(&[
                ("RegionId", &self.region),
                ("ImageId", image),
                ("PageSize", &PAGE_SIZE.to_string()),
                ("PageNumber", &page.to_string()),
            ]);
            let what = format!("image `{image}`");
            let action = "DescribeImageSharePermission";
            let answer: Value = self.service.call(action, &parameters, &what, policy).await?;
            let accounts = answer["Accounts"]["Account"].as_array().map_or(&[][..], Vec::as_slice);
            found.extend(accounts.iter().filter_map(|account| match &account["AliyunId"] {
                Value::String(id) => Some(id.clone()),
                Value::Number(id) => Some(id.to_string()),
                _ => None,
            }));
            let total = answer["TotalCount"].as_u64().and_then(|total| usize::try_from(total).ok());
            if accounts.is_empty() || page * PAGE_SIZE >= total.unwrap_or(0) {
                break;
            }
        }
        Ok(found)
    }
}
