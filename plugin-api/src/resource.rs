//! Things a provider creates in a cloud and how they are found again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A thing in the cloud that costs money or blocks a name. It is told to the host *before* it is
/// created ([`crate::Context::will_create`]), so that even a killed run knows what it left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Resource {
    /// Kind in the provider's own words: `oss_object`, `multipart_upload`, `image`, `snapshot`, `file`…
    pub kind: String,
    /// Name that is known before creation: an object key, a token, a path. Kind, region and name together
    /// are a resource's identity.
    pub name: String,
    /// Identifier given by the cloud, once known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Region or zone, where the cloud has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whatever else the provider needs to find and remove it. No secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// True when a successful build keeps it (the image); false when it is only a means (the uploaded object).
    #[serde(rename = "product")]
    pub deliverable: bool,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

impl Resource {
    /// A resource of `kind` called `name`.
    pub fn new(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: kind.into(), name: name.into(), ..Self::default() }
    }

    /// With the identifier the cloud gave.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// In a region.
    #[must_use]
    pub fn in_region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// With an attribute.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    /// Kept by a successful build.
    #[must_use]
    pub fn as_deliverable(mut self) -> Self {
        self.deliverable = true;
        self
    }

    /// Whether both are the same thing: kind, region and name.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        (&self.kind, &self.region, &self.name) == (&other.kind, &other.region, &other.name)
    }

    /// Kind and id, or name while there is no id: for messages.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} `{}`", self.kind, self.id.as_deref().unwrap_or(&self.name))
    }
}
