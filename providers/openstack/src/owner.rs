//! Distinguishes clouds and projects: a resource that one project created in one cloud is not gone just because another
//! project, or another cloud, does not find it.

use build_image_plugin_api::{Error, Resource, Result};
use serde::{Deserialize, Serialize};

use crate::cloud::Cloud;

/// Attributes of resources.
pub(crate) const PROJECT: &str = "project";
const ENDPOINT: &str = "endpoint";

/// The project and the image service that hold what a run creates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    project: String,
    endpoint: String,
}

impl Owner {
    /// Returns the owner of what is created now.
    pub(crate) fn now(cloud: &Cloud) -> Self {
        Self { project: cloud.project(), endpoint: cloud.endpoint.clone() }
    }

    /// Returns the owner that a resource names.
    fn of(resource: &Resource) -> Self {
        let text = |name: &str| resource.attributes.get(name).cloned().unwrap_or_default();
        Self { project: text(PROJECT), endpoint: text(ENDPOINT) }
    }

    /// Adds this owner to a resource.
    pub(crate) fn mark(&self, resource: Resource) -> Resource {
        resource.with(PROJECT, &self.project).with(ENDPOINT, &self.endpoint)
    }

    /// Refuses what another owner created. `what` begins the message.
    ///
    /// # Errors
    /// Config error that names both.
    pub(crate) fn may_use(&self, what: &str, began: &Self) -> Result<()> {
        let refuse = |thing: &str, then: &str, now: &str, hint: &str| {
            Err(Error::config(format!(
                "{what} belongs to {thing} `{then}`, and these settings use `{now}`"
            ))
            .with_hint(hint))
        };
        if began.endpoint != self.endpoint {
            return refuse(
                "the image service",
                &began.endpoint,
                &self.endpoint,
                "use the settings of that cloud, region, and interface",
            );
        }
        if began.project != self.project {
            return refuse(
                "project",
                &began.project,
                &self.project,
                "use credentials of that project",
            );
        }
        Ok(())
    }

    /// As [`Owner::may_use`], for a resource.
    ///
    /// # Errors
    /// As [`Owner::may_use`].
    pub(crate) fn may_remove(&self, resource: &Resource) -> Result<()> {
        self.may_use(&resource.label(), &Self::of(resource))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(project: &str, endpoint: &str) -> Owner {
        Owner { project: project.to_owned(), endpoint: endpoint.to_owned() }
    }

    #[test]
    fn a_resource_is_removed_only_with_its_project_and_cloud() {
        let resource = owner("p", "https://g").mark(Resource::new("image", "i"));
        assert!(owner("p", "https://g").may_remove(&resource).is_ok());
        for (other, text) in
            [(owner("q", "https://g"), "project `p`"), (owner("p", "https://h"), "`https://g`")]
        {
            let error = other.may_remove(&resource).unwrap_err();
            assert!(error.message.contains(text) && error.hint.is_some(), "{error}");
        }
    }
}
