//! Tags on images and snapshots.
//!
//! Source: ECS API documentation, `TagResources` and `UntagResources`.

use std::collections::BTreeMap;

use build_image_plugin_api::Result;
use serde_json::Value;

use crate::{
    acs::Parameters,
    ecs::{Ecs, pairs},
    error::Failure,
    image::Image,
    names,
    retry::Policy,
};

/// Tag that a copy wears until it is finished: its value is the run that makes it, so that a copy
/// whose identifier was never learned can be told from a stranger's.
pub(crate) const MARK: &str = "build-image-run";

impl Ecs {
    fn tag_call(&self, resource_type: &str, ids: &[String]) -> (Parameters, String) {
        let mut parameters = pairs(&[("RegionId", &self.region), ("ResourceType", resource_type)]);
        for (position, id) in ids.iter().enumerate() {
            parameters.push((format!("ResourceId.{}", position + 1), id.clone()));
        }
        (parameters, format!("{resource_type} `{}`", ids.join("`, `")))
    }

    /// Tags resources of one type (`image`, `snapshot`). Nothing to tag is fine.
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

    /// Takes the mark of an unfinished copy off.
    pub(crate) async fn unmark(&self, image: &Image, policy: &Policy) -> Result<(), Failure> {
        let (mut parameters, what) = self.tag_call("image", std::slice::from_ref(&image.image_id));
        parameters.extend(pairs(&[("TagKey.1", MARK)]));
        self.service.call::<Value>("UntagResources", &parameters, &what, policy).await.map(|_| ())
    }
}
