//! Sets tags on images and snapshots.
//!
//! Source: ECS API documentation, `TagResources` and `UntagResources`.

use std::collections::BTreeMap;

use build_image_plugin_api::{
    Result,
    retry::{Failure, Policy},
};
use serde_json::Value;

use crate::{
    acs::Parameters,
    ecs::{Ecs, pairs},
    image::Image,
    names,
};

/// Tag of a copy until it is finished: its value is the run that makes it, so that a copy whose identifier is
/// unknown can be distinguished from another user's.
pub(crate) const MARK: &str = "build-image-run";

impl Ecs {
    fn tag_call(&self, resource_type: &str, ids: &[String]) -> (Parameters, String) {
        let mut parameters = pairs(&[("RegionId", &self.region), ("ResourceType", resource_type)]);
        for (position, id) in ids.iter().enumerate() {
            parameters.push((format!("ResourceId.{}", position + 1), id.clone()));
        }
        (parameters, format!("{resource_type} `{}`", ids.join("`, `")))
    }

    /// Tags resources of one type (`image`, `snapshot`). An empty list is not an error.
    pub(crate) async fn tag(
        &self,
        resource_type: &str,
        ids: &[String],
        tags: &BTreeMap<String, String>,
        policy: &Policy,
    ) -> Result<(), Failure> {
        if ids.is_empty() || tags.is_empty() {
            return Ok(());
        }
        let (mut parameters, what) = self.tag_call(resource_type, ids);
        parameters.extend(names::tag_parameters(tags));
        self.service.call::<Value>("TagResources", &parameters, &what, policy).await.map(|_| ())
    }

    /// Removes the mark of an unfinished copy.
    pub(crate) async fn unmark(&self, image: &Image, policy: &Policy) -> Result<(), Failure> {
        let (mut parameters, what) = self.tag_call("image", std::slice::from_ref(&image.image_id));
        parameters.extend(pairs(&[("TagKey.1", MARK)]));
        self.service.call::<Value>("UntagResources", &parameters, &what, policy).await.map(|_| ())
    }
}
