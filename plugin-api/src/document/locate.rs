//! Defines the documents of runs that do one half of a build: upload an image that is not registered, or register an
//! object that is there already.

use serde::{Deserialize, Serialize};

use super::{Build, GuestFacts, Uploaded};
use crate::{Architecture, BootMode};

/// What a run does in the cloud.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Purpose {
    /// Uploads only: `register` is not called, and the uploaded object stays. Only of providers with the capability
    /// `upload.only`.
    Upload,
    /// Registers an object that [`crate::Provider::locate`] finds: `create_disk` and `upload` are not called.
    Register,
    /// Uploads and registers. Unknown words are read as this variant.
    #[default]
    #[serde(other)]
    Build,
}

impl Purpose {
    /// Returns the word for [`crate::Description::capabilities`] without which a host starts no such run.
    #[must_use]
    pub const fn capability(self) -> Option<&'static str> {
        match self {
            Self::Upload => Some("upload.only"),
            Self::Register => Some("locate"),
            Self::Build => None,
        }
    }

    /// Whether it is a whole build, as every run of hosts before 1.1.
    pub(super) fn is_build(&self) -> bool {
        *self == Self::Build
    }
}

/// Request of [`crate::Provider::locate`]. Since 1.1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct LocateRequest {
    /// What is being built; size, architecture, boot mode, and what was found on the disk are not known.
    pub build: Build,
    /// The object as the user names it: [`Uploaded::id`], or what the cloud's own tools call it.
    pub id: String,
}

/// Answer of [`crate::Provider::locate`]: the object, and what is known of the disk in it. A member that is absent is
/// not known. Since 1.1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Located {
    /// What `upload` would have returned, for `register`. Its `bytes_sent` is 0.
    pub uploaded: Uploaded,
    /// Length of the object in bytes.
    pub length: u64,
    /// Size the guest sees, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<u64>,
    /// Architecture of the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
    /// Firmware that starts the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_mode: Option<BootMode>,
    /// What the host that uploaded it found on the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestFacts>,
}
