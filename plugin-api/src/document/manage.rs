//! The documents of [`crate::Provider::manage`]: changes to registered images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Audience, Image, Reference};
use crate::ErrorDocument;

/// A change to registered images. Every action states a result, not a step: an image that is already as the action
/// wants it is `unchanged`.
///
/// A provider declares each action that it supports as a capability, see [`Action::capability`], and refuses every
/// other with an error of kind `unsupported`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// Lets accounts use the image. Accounts that can use it already keep their access.
    Share {
        /// Accounts, projects, organisations or members, as the cloud writes them.
        accounts: Vec<String>,
    },
    /// Withdraws the access of accounts. An account without access is not an error.
    Unshare {
        /// Accounts, projects, organisations or members, as the cloud writes them.
        #[serde(default)]
        accounts: Vec<String>,
        /// Withdraws the access of every account, whatever `accounts` lists.
        #[serde(default)]
        everyone: bool,
    },
    /// Sets who can use the image: `public` publishes it, `private` withdraws that. Accounts that it is shared with
    /// keep their access.
    Publish {
        /// Who can use it.
        audience: Audience,
    },
    /// Marks the image as deprecated. Repeating it with other times or another replacement changes these.
    Deprecate {
        /// From when, in seconds since 1970-01-01 UTC; absent = now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<u64>,
        /// From when it can no longer be used, in seconds since 1970-01-01 UTC; absent = never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disabled_at: Option<u64>,
        /// The image to use instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replacement: Option<Reference>,
        /// Reason, for clouds that show one.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Makes a deprecated, hidden or disabled image usable again.
    Restore,
    /// Sets tags of the image and of its snapshots; other tags stay.
    Tag {
        /// Tags to set.
        tags: BTreeMap<String, String>,
    },
    /// Removes tags from the image and its snapshots. A key that is not set is not an error.
    Untag {
        /// Keys to remove. Marks of builds are refused.
        keys: Vec<String>,
    },
    /// Copies the image. A region that has the copy already (by its marks, not by its name alone) is `unchanged`.
    /// Each copy is announced as a resource of [`ManageRequest::run_id`] before it is created.
    Copy {
        /// Regions, zones or stores to copy to.
        regions: Vec<String>,
        /// Name of the copies; absent = the image's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Whether the copies are shared and published as the image is. Tags and attributes are always copied.
        #[serde(default)]
        with_access: bool,
        /// Encryption key by region; a region without a key is encrypted as the account's default says.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        keys: BTreeMap<String, String>,
    },
    /// Sets the name of the image, and attributes that its item in an inventory has. What the cloud cannot change is refused
    /// as `unsupported`, with what to do instead; nothing is changed then.
    Modify {
        /// The name; absent = it stays.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Values by the names that the inventory has; others stay.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        attributes: BTreeMap<String, String>,
    },
    /// Deletes the image. An image that does not exist is `unchanged`.
    Delete {
        /// Whether the snapshots or objects that it consists of stay.
        #[serde(default)]
        keep_data: bool,
        /// Deletes it also when it is protected, shared or in use, where the cloud permits that.
        #[serde(default)]
        force: bool,
    },
    /// An action of a later version; a provider answers `unsupported`.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Action {
    /// Returns the word for [`crate::Description::capabilities`]: `manage.` and the action.
    #[must_use]
    pub const fn capability(&self) -> &'static str {
        match self {
            Self::Share { .. } => "manage.share",
            Self::Unshare { .. } => "manage.unshare",
            Self::Publish { .. } => "manage.publish",
            Self::Deprecate { .. } => "manage.deprecate",
            Self::Restore => "manage.restore",
            Self::Tag { .. } => "manage.tag",
            Self::Untag { .. } => "manage.untag",
            Self::Copy { .. } => "manage.copy",
            Self::Modify { .. } => "manage.modify",
            Self::Delete { .. } => "manage.delete",
            Self::Unknown => "manage.unknown",
        }
    }
}

/// Request of [`crate::Provider::manage`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct ManageRequest {
    /// Identifies this call: `[0-9a-z-]+`, unique. New resources carry it as their mark; a repeated call keeps it.
    pub run_id: String,
    /// The images, each by its identifier and region, never by name alone.
    pub images: Vec<Reference>,
    /// The change.
    pub action: Action,
    /// Whether nothing may be changed: the answer states what would be done.
    pub dry_run: bool,
}

/// What became of one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Change {
    /// It was changed; in a dry run, it would be.
    Done,
    /// It already was as the action wants it.
    Unchanged,
    /// It was not changed; `error` states why. Unknown words are read as this variant.
    #[default]
    #[serde(other)]
    Refused,
}

/// Result of the action for one image; for a copy, for one image in one region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Managed {
    /// The image, as the request names it.
    pub image: Reference,
    /// What became of it.
    pub change: Change,
    /// What was changed, or would be, in a few words: `shared with 2 accounts`. For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// The copy that was made, or that existed already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<Image>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorDocument>,
}

impl Managed {
    /// The image was changed, or would be.
    pub fn done(image: &Reference, summary: impl Into<String>) -> Self {
        Self {
            image: image.clone(),
            change: Change::Done,
            summary: summary.into(),
            ..Self::default()
        }
    }

    /// The image already was as the action wants it.
    #[must_use]
    pub fn unchanged(image: &Reference) -> Self {
        Self { image: image.clone(), change: Change::Unchanged, ..Self::default() }
    }

    /// The image was not changed.
    #[must_use]
    pub fn refused(image: &Reference, error: &crate::Error) -> Self {
        Self {
            image: image.clone(),
            change: Change::Refused,
            error: Some(error.into()),
            ..Self::default()
        }
    }
}

/// Answer of [`crate::Provider::manage`]: one result per image, and for a copy per image and region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct ManageOutcome {
    /// The results, in the order of the request. An image without a result counts as refused.
    pub results: Vec<Managed>,
}
