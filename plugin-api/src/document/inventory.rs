//! The documents of [`crate::Provider::inventory`]: what a cloud account contains that carries the marks of builds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Finding;
use crate::Resource;

/// Kind of an object in an account, as far as a host distinguishes kinds. [`Resource::kind`] holds the provider's own word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ItemKind {
    /// A registered image; in a registry of artefacts, a manifest.
    Image,
    /// A snapshot or volume that an image consists of or was made from.
    Snapshot,
    /// An object in a bucket or store; in a registry of artefacts, a blob.
    Object,
    /// An upload in progress: it holds parts that cost money and is not an object yet.
    Upload,
    /// A task of the cloud that is still running: an import, a copy.
    Task,
    /// Anything else, such as a marker object. Unknown kinds are read as this variant.
    #[default]
    #[serde(other)]
    Other,
}

/// State of an object in an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ItemState {
    /// Complete and usable.
    Available,
    /// Being created, imported, copied or uploaded.
    Pending,
    /// Usable, and marked as deprecated or hidden from lists.
    Deprecated,
    /// Kept, and not usable: disabled, deactivated, obsolete.
    Disabled,
    /// Creating it failed.
    Failed,
    /// Being deleted.
    Deleting,
    /// The cloud does not report a state. Unknown states are read as this variant.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Identity of an object in an account: what another document refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Reference {
    /// Kind; an image where nothing else is stated.
    pub kind: ItemKind,
    /// Identifier in the cloud.
    pub id: String,
    /// Region, zone or store; absent where the cloud has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

impl Reference {
    /// Refers to an object.
    pub fn new(kind: ItemKind, id: impl Into<String>) -> Self {
        Self { kind, id: id.into(), ..Self::default() }
    }

    /// Refers to an image.
    pub fn image(id: impl Into<String>) -> Self {
        Self::new(ItemKind::Image, id)
    }

    /// Sets the region.
    #[must_use]
    pub fn in_region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }
}

/// Request of [`crate::Provider::inventory`]. All given filters must match; an empty filter matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct InventoryRequest {
    /// Only objects of this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Only these kinds.
    pub kinds: Vec<ItemKind>,
    /// Only these regions; empty = every region that the account can use.
    pub regions: Vec<String>,
    /// Only objects with one of these names, compared exactly.
    pub names: Vec<String>,
    /// Only objects with all of these tags, key and value.
    pub tags: BTreeMap<String, String>,
    /// Exactly these objects. They are returned even without a mark of a build: a user has named them.
    pub items: Vec<Reference>,
    /// Only objects created at this time or later, in seconds since 1970-01-01 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_since: Option<u64>,
    /// Only objects created before this time, in seconds since 1970-01-01 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_before: Option<u64>,
    /// Whether members that cost a request per object must be filled in: `shared_with`, `audience`, `deprecated_at`,
    /// `replacement`. Without it a provider fills in what it knows anyway.
    pub details: bool,
    /// Most items in the answer; 0 = the provider's own limit.
    pub limit: u64,
    /// [`Inventory::next`] of the previous answer, to continue after it; the filters are the same then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Who can use an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Audience {
    /// The owner and the accounts that it is shared with.
    Private,
    /// Everyone who knows its identifier; it is not in public lists.
    Community,
    /// Everyone.
    Public,
    /// The cloud does not report it. Unknown words are read as this variant.
    #[default]
    #[serde(other)]
    Unknown,
}

/// An object in an account that carries the mark of a build, or that the request names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Item {
    /// Kind.
    pub kind: ItemKind,
    /// Identifier in the cloud; a key or path where the cloud assigns none.
    pub id: String,
    /// Name as the cloud's console shows it; empty when it has none.
    pub name: String,
    /// Region, zone or store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The run that created it, from its marks; absent when they name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// When it was created, in seconds since 1970-01-01 UTC: times are compared, and no cloud writes them like another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<u64>,
    /// State.
    pub state: ItemState,
    /// Bytes that the account pays for, or the nearest number that the cloud reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Percentage of a pending object or task that is done, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// Tags, also those that are not marks of a build.
    pub tags: BTreeMap<String, String>,
    /// The object that it is a part of or was made for: the image of a snapshot, the image of an import task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub belongs_to: Option<Reference>,
    /// The image that it is a copy of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied_from: Option<Reference>,
    /// Digest of the disk it was made from, `sha256:` and hexadecimal digits, from its marks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_digest: Option<String>,
    /// Until when a live run claims it, in seconds since 1970-01-01 UTC: nothing of that run may be removed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leased_until: Option<u64>,
    /// Account that owns it, where it is not the caller's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Who can use it.
    pub audience: Audience,
    /// Accounts, projects, organisations or members that it is shared with, as the cloud writes them; absent when
    /// they were not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_with: Option<Vec<String>>,
    /// From when it is deprecated, in seconds since 1970-01-01 UTC; may be in the future.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deprecated_at: Option<u64>,
    /// The image that replaces it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replacement: Option<Reference>,
    /// Properties that copies of an image must share, as the cloud names them: architecture, boot mode, encryption key.
    pub attributes: BTreeMap<String, String>,
    /// What [`crate::Provider::discard`] takes to remove it. Its `deliverable` is true for what a build was made
    /// for, and false for an intermediate.
    pub resource: Resource,
}

impl Item {
    /// Returns the item as other documents refer to it.
    #[must_use]
    pub fn reference(&self) -> Reference {
        Reference {
            kind: self.kind,
            id: self.id.clone(),
            region: self.region.clone(),
            ..Reference::default()
        }
    }
}

/// Answer of [`crate::Provider::inventory`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Inventory {
    /// The objects.
    pub items: Vec<Item>,
    /// Regions that were read completely. What is absent in another region may exist there.
    pub regions: Vec<String>,
    /// Whether there are more objects than `items`.
    pub truncated: bool,
    /// Where to continue ([`InventoryRequest::after`]); absent when the filters must be narrowed instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Problems, such as a region that could not be read; `subject` names the region or service.
    pub findings: Vec<Finding>,
}
