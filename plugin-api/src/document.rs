//! What steps receive and return. Every field has a default, unknown fields are ignored, a field's
//! meaning never changes: that is how the contract grows without breaking anyone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Disk, DiskSpec, Resource};

/// What is being built; part of every request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Build {
    /// Identifier of the run, unique, `[0-9a-z-]+`; a resumed run keeps it.
    pub run_id: String,
    /// Name the registered image will have.
    pub image_name: String,
    /// Whether the user chose the name (it must be used exactly).
    pub image_name_chosen: bool,
    /// Text for the image's description.
    pub description: String,
    /// Facts of the product inside the image: `name`, `version`, `build`…; empty for a plain disk.
    pub product: BTreeMap<String, String>,
    /// `x86_64` or `aarch64`.
    pub architecture: String,
    /// `bios` or `uefi`.
    pub boot_mode: String,
    /// Size the guest sees, in bytes; an estimate while the disk does not exist yet.
    pub virtual_size: u64,
    /// Tags for the image, within the limits the provider declared.
    pub tags: BTreeMap<String, String>,
    /// Directory for published files, absolute; absent when nothing is to be published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_dir: Option<String>,
    /// File name of the published image without suffix.
    pub file_stem: String,
    /// File name without suffix of the disk inside a package: `BIGIP-15.0.0-0.0.39`.
    pub disk_name: String,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

/// What the host can do, so that a provider can refuse early what would fail late.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct HostFacts {
    /// Version of the tool.
    pub version: String,
    /// Disks it can make.
    pub disks: Vec<DiskSpec>,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

/// Request of [`crate::Provider::check`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct CheckRequest {
    /// What will be built.
    pub build: Build,
    /// What the host can do.
    pub host: HostFacts,
    /// Whether the cloud will be needed. When false, nothing may be asked over the network and missing
    /// credentials are no finding: the build ends before the upload.
    pub online: bool,
    /// Only a look: nothing may be created or changed anywhere, not even what a build was told to make.
    /// A finding says what a build would make. When false, a build follows.
    #[serde(rename = "look_only")]
    pub dry_run: bool,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Severity {
    /// Fine; worth showing.
    #[default]
    Ok,
    /// The build goes on.
    Warning,
    /// The build must not start. Unknown severities are read as this one.
    #[serde(other)]
    Error,
}

/// One thing a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Finding {
    /// How serious.
    pub severity: Severity,
    /// What was looked at: `bucket`, `credentials`…
    pub subject: String,
    /// What was found, lower-case fragment.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Causes, outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Word of the [`crate::ErrorKind`] an error finding stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

impl Finding {
    /// All is well with `subject`.
    pub fn ok(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { subject: subject.into(), message: message.into(), ..Self::default() }
    }

    /// A warning.
    pub fn warning(
        subject: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, hint: Some(hint.into()), ..Self::ok(subject, message) }
    }

    /// A finding that stops the build.
    pub fn error(subject: impl Into<String>, error: &crate::Error) -> Self {
        Self {
            severity: Severity::Error,
            hint: error.hint.clone(),
            causes: error.causes.clone(),
            kind: Some(error.kind.code().to_owned()),
            ..Self::ok(subject, error.to_string())
        }
    }
}

/// Answer of [`crate::Provider::check`]: everything that was found, not only the first problem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct CheckReport {
    /// Findings in the order of the checks.
    pub findings: Vec<Finding>,
    /// The disk `create_disk` will ask for with these settings; absent = the description's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskSpec>,
    /// What a build with these settings will create, as far as it is known beforehand, products and means; told
    /// without asking the cloud. For plans, not for the ledger.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub creates: Vec<Resource>,
    /// Rights the account needs for it, in the cloud's own words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<String>,
    /// Most bytes per second the upload may take, when a setting says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

/// Request of [`crate::Provider::create_disk`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct DiskRequest {
    /// What is being built.
    pub build: Build,
    /// The disk the provider's description asks for.
    pub spec: DiskSpec,
    /// Whether it is for IMAGE_DIR; `spec` is the description's `package` then.
    pub published: bool,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

/// Request of [`crate::Provider::upload`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct UploadRequest {
    /// What is being built.
    pub build: Build,
    /// The disk `create_disk` returned.
    pub disk: Disk,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

/// Answer of [`crate::Provider::upload`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Uploaded {
    /// Where the image lies now: URL or path.
    pub location: String,
    /// Bytes put on the wire, retries included; 0 when nothing had to be sent.
    pub bytes_sent: u64,
    /// What `register` needs to know, in the provider's own words. No secrets.
    pub facts: BTreeMap<String, Value>,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

/// Request of [`crate::Provider::register`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct RegisterRequest {
    /// What is being built.
    pub build: Build,
    /// What `upload` returned.
    pub uploaded: Uploaded,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

/// One registered image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Image {
    /// Identifier in the cloud, or path of the published file.
    pub id: String,
    /// Name it has.
    pub name: String,
    /// Region it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

/// Answer of [`crate::Provider::register`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Registered {
    /// The images, the one in the build's own region first.
    pub images: Vec<Image>,
    /// Members added to the result document as `<provider>_<name>`. No secrets.
    pub facts: BTreeMap<String, Value>,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

/// Why resources are removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DiscardReason {
    /// The build is done and no longer needs them.
    #[default]
    Done,
    /// The build failed or was interrupted.
    Failed,
    /// An earlier run left them. Unknown reasons are read as this one.
    #[serde(other)]
    Leftover,
}

/// Request of [`crate::Provider::discard`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct DiscardRequest {
    /// The run that created them.
    pub run_id: String,
    /// Why.
    pub reason: DiscardReason,
    /// What to remove, in this order.
    pub resources: Vec<Resource>,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

/// A resource that could not be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Remaining {
    /// The resource.
    pub resource: Resource,
    /// Why it is still there.
    pub reason: String,
    /// How to remove it by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

/// Answer of [`crate::Provider::discard`]. Removing what is gone already counts as removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Discarded {
    /// Gone now. Whatever is in neither list counts as remaining.
    pub removed: Vec<Resource>,
    /// Still there.
    pub remaining: Vec<Remaining>,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}
