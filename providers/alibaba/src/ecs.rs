//! Calls ECS for images and tasks: one function per operation that is used. Tags, shares, and copies are in
//! separate files.
//!
//! Source: ECS API documentation, version 2014-05-26.

use std::sync::Arc;

use build_image_plugin_api::{
    Result,
    retry::{Failure, Policy},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    acs::{Parameters, Service},
    config::{Config, Place},
    credentials::Credentials,
    image::{Image, Imported, Task},
};

/// Version of the API.
const VERSION: &str = "2014-05-26";
/// States an image may be in; without them, the service lists only available images.
pub(crate) const ALL_STATES: &str =
    "Creating,Waiting,Available,UnAvailable,CreateFailed,Deprecated";
/// Entries per page of a list; the service's maximum.
pub(crate) const PAGE_SIZE: usize = 100;

/// The image API of ECS in one region.
pub(crate) struct Ecs {
    pub(crate) service: Service,
    pub(crate) region: String,
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

/// Builds parameters from borrowed names and values.
pub(crate) fn pairs(list: &[(&str, &str)]) -> Parameters {
    list.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Ecs {
    /// Opens ECS of a place.
    ///
    /// # Errors
    /// When no connections can be made at all.
    pub(crate) fn open(place: &Place, credentials: Arc<Credentials>) -> Result<Self> {
        let service = Service::open(&place.ecs, VERSION, credentials)?;
        Ok(Self { service, region: place.region.clone() })
    }

    /// Opens ECS of a region, with separate connections.
    ///
    /// # Errors
    /// When the endpoint is not an address or no connections can be made at all.
    pub(crate) fn of_region(
        config: &Config,
        region: &str,
        credentials: &Arc<Credentials>,
    ) -> Result<Self> {
        let endpoint = config.ecs_of(region)?;
        let service = Service::open(&endpoint, VERSION, Arc::clone(credentials))?;
        Ok(Self { service, region: region.to_owned() })
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

    /// Own images with exactly this name, in any state. (The service itself also matches similar names.)
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

    /// Every region of the vendor.
    pub(crate) async fn regions(&self, policy: &Policy) -> Result<Vec<String>, Failure> {
        let parameters = pairs(&[("RegionId", &self.region)]);
        let answer: Value = self.service.call("DescribeRegions", &parameters, "", policy).await?;
        let list = answer["Regions"]["Region"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(list.iter().filter_map(|row| row["RegionId"].as_str().map(str::to_owned)).collect())
    }

    /// Starts an import.
    pub(crate) async fn import_image(
        &self,
        parameters: &Parameters,
        policy: &Policy,
    ) -> Result<Imported, Failure> {
        self.service.call("ImportImage", parameters, "the uploaded disk", policy).await
    }

    /// Reads the state of a task.
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

    /// Deletes an image; the service removes it some time later.
    pub(crate) async fn delete_image(&self, id: &str, policy: &Policy) -> Result<(), Failure> {
        let parameters = pairs(&[("RegionId", &self.region), ("ImageId", id)]);
        let what = format!("image `{id}`");
        self.service.call::<Value>("DeleteImage", &parameters, &what, policy).await.map(|_| ())
    }

    /// Cancels a running copy, in the region it is made in.
    pub(crate) async fn cancel_copy(&self, id: &str, policy: &Policy) -> Result<(), Failure> {
        let parameters = pairs(&[("RegionId", &self.region), ("ImageId", id)]);
        let what = format!("image `{id}`");
        self.service.call::<Value>("CancelCopyImage", &parameters, &what, policy).await.map(|_| ())
    }

    /// Deletes a snapshot.
    pub(crate) async fn delete_snapshot(&self, id: &str, policy: &Policy) -> Result<(), Failure> {
        let parameters =
            pairs(&[("RegionId", &self.region), ("SnapshotId", id), ("Force", "true")]);
        let what = format!("snapshot `{id}`");
        self.service.call::<Value>("DeleteSnapshot", &parameters, &what, policy).await.map(|_| ())
    }

    /// Changes attributes of an image, with the service's own parameter names.
    pub(crate) async fn modify_image(
        &self,
        id: &str,
        attributes: &[(&str, &str)],
        policy: &Policy,
    ) -> Result<(), Failure> {
        let mut parameters = pairs(&[("RegionId", &self.region), ("ImageId", id)]);
        parameters.extend(pairs(attributes));
        let what = format!("image `{id}`");
        let action = "ModifyImageAttribute";
        self.service.call::<Value>(action, &parameters, &what, policy).await.map(|_| ())
    }
}
