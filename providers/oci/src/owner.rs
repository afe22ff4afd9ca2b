//! Distinguishes repositories: what a run created in one is not gone just because another does not have it.

use build_image_plugin_api::{Error, Resource, Result};
use serde::{Deserialize, Serialize};

use crate::registry::Registry;

/// Attributes of resources.
const REGISTRY: &str = "registry";
const REPOSITORY: &str = "repository";

/// The repository that holds what a run creates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    registry: String,
    repository: String,
}

impl Owner {
    /// Returns the owner of what is created there.
    pub(crate) fn of(registry: &Registry) -> Self {
        let reference = &registry.reference;
        Self { registry: reference.registry.clone(), repository: reference.repository.clone() }
    }

    /// Adds this owner to a resource.
    pub(crate) fn mark(&self, resource: Resource) -> Resource {
        resource.with(REGISTRY, &self.registry).with(REPOSITORY, &self.repository)
    }

    /// Refuses what belongs to another repository. `what` begins the message.
    ///
    /// # Errors
    /// Config error that names both.
    pub(crate) fn may_use(&self, what: &str, began: &Self) -> Result<()> {
        if began == self {
            return Ok(());
        }
        let then = format!("{}/{}", began.registry, began.repository);
        Err(Error::config(format!(
            "{what} belongs to `{then}`, and OCI_REFERENCE names `{}/{}`",
            self.registry, self.repository
        ))
        .with_hint(format!("set OCI_REFERENCE to `{then}`, with the settings for that registry")))
    }

    /// As [`Owner::may_use`], for a resource.
    ///
    /// # Errors
    /// As [`Owner::may_use`].
    pub(crate) fn may_remove(&self, resource: &Resource) -> Result<()> {
        let text = |name: &str| resource.attributes.get(name).cloned().unwrap_or_default();
        let began = Self { registry: text(REGISTRY), repository: text(REPOSITORY) };
        self.may_use(&resource.label(), &began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_removed_only_from_its_repository() {
        let owner = |registry: &str, repository: &str| Owner {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
        };
        let resource = owner("r", "a").mark(Resource::new("tag", "1"));
        assert!(owner("r", "a").may_remove(&resource).is_ok());
        for other in [owner("s", "a"), owner("r", "b")] {
            let error = other.may_remove(&resource).unwrap_err();
            assert!(error.message.contains("`r/a`") && error.hint.is_some(), "{error}");
        }
    }
}
