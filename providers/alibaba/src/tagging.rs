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
    names,
};

/// Tag of every image and snapshot that a build creates: its value is the run. By it, a copy whose identifier is unknown
/// is distinguished from another user's, and everything of a run is found without a local file.
pub(crate) use build_image_plugin_api::ready::marks::RUN as MARK;

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

    /// Removes tags of resources of one type. An empty list is not an error.
    pub(crate) async fn untag(
        &self,
        resource_type: &str,
        ids: &[String],
        keys: &[String],
        policy: &Policy,
    ) -> Result<(), Failure> {
        if ids.is_empty() || keys.is_empty() {
            return Ok(());
        }
        let (mut parameters, what) = self.tag_call(resource_type, ids);
        let numbered = keys.iter().enumerate();
        parameters.extend(numbered.map(|(at, key)| (format!("TagKey.{}", at + 1), key.clone())));
        self.service.call::<Value>("UntagResources", &parameters, &what, policy).await.map(|_| ())
    }
}
