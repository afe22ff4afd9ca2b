//! Describes the objects that a provider creates in a cloud, and how they are found again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An object in the cloud that costs money or occupies a name. It is reported to the host *before* it is created
/// ([`crate::Context::will_create`]), so that the resources of a killed run are known as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Resource {
    /// Kind as the provider calls it: `oss_object`, `multipart_upload`, `image`, `snapshot`, `file`…
    pub kind: String,
    /// Name that is known before creation: an object key, a token, a path. Kind, region and name together are a
    /// resource's identity.
    pub name: String,
    /// Identifier that the cloud assigned, once known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Region or zone, where the cloud has regions or zones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Anything else that the provider needs to find and remove it. No secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// True for a deliverable, which a successful build keeps (the image); false for an intermediate (the uploaded
    /// object).
    #[serde(rename = "product")]
    pub deliverable: bool,
}

impl Resource {
    /// Creates a resource of `kind` called `name`.
    pub fn new(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: kind.into(), name: name.into(), ..Self::default() }
    }

    /// Sets the identifier that the cloud assigned.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the region.
    #[must_use]
    pub fn in_region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    /// Marks it as a deliverable, which a successful build keeps.
    #[must_use]
    pub fn as_deliverable(mut self) -> Self {
        self.deliverable = true;
        self
    }

    /// Returns whether both have the same identity: kind, region and name.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        (&self.kind, &self.region, &self.name) == (&other.kind, &other.region, &other.name)
    }

    /// Returns the kind and the id, or the name while the id is unknown: for messages.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} `{}`", self.kind, self.id.as_deref().unwrap_or(&self.name))
    }
}
