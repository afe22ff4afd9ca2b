//! Defines what steps receive and return. Every field has a default, unknown fields are ignored, and a field's
//! meaning never changes: this is how the contract grows without breaking existing plugins and hosts.

mod inventory;
mod locate;
mod manage;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::{
    inventory::{Audience, Inventory, InventoryRequest, Item, ItemKind, ItemState, Reference},
    locate::{LocateRequest, Located, Purpose},
    manage::{Action, Change, ManageOutcome, ManageRequest, Managed},
};
use crate::{Architecture, BootMode, Disk, DiskSpec, MachineNeeds, Resource};

/// What is being built; part of every request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Build {
    /// Identifier of the run, unique, `[0-9a-z-]+`; a resumed run keeps it.
    pub run_id: String,
    /// Name of the registered image.
    pub image_name: String,
    /// Whether the user chose the name (it must be used exactly).
    pub image_name_chosen: bool,
    /// Text for the image's description.
    pub description: String,
    /// Facts of the product inside the image: `name`, `version`, `build`…; empty for a plain disk.
    pub product: BTreeMap<String, String>,
    /// `x86_64` or `aarch64`.
    pub architecture: Architecture,
    /// `bios` or `uefi`.
    pub boot_mode: BootMode,
    /// Size the guest sees, in bytes; an estimate while the disk does not exist yet.
    pub virtual_size: u64,
    /// Tags for the image, within the limits the provider declared.
    pub tags: BTreeMap<String, String>,
    /// Directory for published files, absolute; absent when nothing is published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_dir: Option<String>,
    /// File name of the published image without suffix.
    pub file_stem: String,
    /// File name without suffix of the disk inside a package: `BIGIP-15.0.0-0.0.39`.
    pub disk_name: String,
    /// What the host found on the disk; absent while the disk was not inspected. Settings precede it. Since 1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestFacts>,
}

/// What the host found on the disk, for the attributes that a cloud records of an image. A member that is absent or
/// empty is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct GuestFacts {
    /// ID of os-release(5): `debian`; or `windows`, which has no such file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// VERSION_ID of os-release: `12`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// PRETTY_NAME of os-release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_name: Option<String>,
    /// Architecture of the installed programs.
    pub architecture: Architecture,
    /// Firmware that can start the disk.
    pub firmware: Vec<BootMode>,
    /// Whether the system finds its root on an NVMe disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nvme: Option<bool>,
    /// Agents of clouds and hypervisors: `cloud-init`, `qemu-guest-agent`…
    pub agents: Vec<String>,
}

/// Capabilities of the host, so that a provider can refuse early what would fail late.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct HostFacts {
    /// Version of build-image.
    pub version: String,
    /// Disks that it can make.
    pub disks: Vec<DiskSpec>,
}

/// Request of [`crate::Provider::check`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct CheckRequest {
    /// The build that will run.
    pub build: Build,
    /// Capabilities of the host.
    pub host: HostFacts,
    /// Whether the cloud will be needed. When false, the network must not be used, and missing credentials are not
    /// a finding: the build ends before the upload.
    pub online: bool,
    /// Dry run: nothing may be created or changed anywhere, not even directories or files that a build was asked
    /// to create. A finding states what a build would create. When false, a build follows.
    #[serde(rename = "look_only")]
    pub dry_run: bool,
    /// What the run will do in the cloud; absent = it uploads and registers. Since 1.1.
    #[serde(skip_serializing_if = "Purpose::is_build")]
    pub purpose: Purpose,
    /// Images of the account that were made from the same disk. Unless it is empty, the provider checks nothing else: it
    /// answers in [`CheckReport::same`] whether they are what this build would register. `build.tags` has only the
    /// tags that the user asked for. For providers with the capability `same`. Since 1.1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub same: Vec<Reference>,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Severity {
    /// No problem; worth showing.
    #[default]
    Ok,
    /// The build continues.
    Warning,
    /// The build must not start. Unknown severities are read as this variant.
    #[serde(other)]
    Error,
}

/// One finding of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Finding {
    /// Severity.
    pub severity: Severity,
    /// What was checked: `bucket`, `credentials`…
    pub subject: String,
    /// What was found, lower-case fragment.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Causes, outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Word of the [`crate::ErrorKind`] that an error finding represents.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schemas", schemars(with = "Option<String>"))]
    pub kind: Option<crate::ErrorKind>,
}

impl Finding {
    /// Creates a finding: no problem with `subject`.
    pub fn ok(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { subject: subject.into(), message: message.into(), ..Self::default() }
    }

    /// Creates a warning.
    pub fn warning(
        subject: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, hint: Some(hint.into()), ..Self::ok(subject, message) }
    }

    /// Creates a finding that stops the build.
    pub fn error(subject: impl Into<String>, error: &crate::Error) -> Self {
        Self {
            severity: Severity::Error,
            hint: error.hint.clone(),
            causes: error.causes.clone(),
            kind: Some(error.kind),
            ..Self::ok(subject, error.to_string())
        }
    }
}

/// Answer of [`crate::Provider::check`]: every finding, not only the first problem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Findings in the order of the checks.
    pub findings: Vec<Finding>,
    /// The disk that `create_disk` will request with these settings; absent = the description's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskSpec>,
    /// What a build with these settings will create, as far as it is known in advance, deliverables and
    /// intermediates; determined without a request to the cloud. For plans, not for the journal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub creates: Vec<Resource>,
    /// Permissions that the account needs for it, as the cloud names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<String>,
    /// Upper limit of the upload rate in bytes per second, when a setting defines one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// What the machines need from a disk with these settings; absent = what the description declares. Since 1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machines: Option<MachineNeeds>,
    /// The images among [`CheckRequest::same`] that are what the build would register, complete and in every region that
    /// the settings name, as `register` would answer. Absent when they are not: the findings then state each
    /// difference, with the command that repairs it as the hint. Since 1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same: Option<Registered>,
}

/// Request of [`crate::Provider::create_disk`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct DiskRequest {
    /// What is being built.
    pub build: Build,
    /// The disk that the provider's description requests.
    pub spec: DiskSpec,
    /// Whether it is for IMAGE_DIR; then `spec` is the description's `package`.
    #[serde(rename = "published")]
    pub for_image_dir: bool,
}

/// Request of [`crate::Provider::upload`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct UploadRequest {
    /// What is being built.
    pub build: Build,
    /// The disk that `create_disk` returned.
    pub disk: Disk,
    /// Whether the uploaded object belongs to the user once the run succeeds, because the run does not register it.
    /// Its resource is then a deliverable. Only for providers with the capability `upload.only`. Since 1.1.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stays: bool,
}

/// Answer of [`crate::Provider::upload`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Uploaded {
    /// Location of the uploaded image: URL or path.
    pub location: String,
    /// The object as [`crate::Provider::locate`] takes it; absent = it cannot be registered by another run. Since 1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Bytes sent over the network, retries included; 0 when nothing had to be sent.
    pub bytes_sent: u64,
    /// What `register` needs to know, in the provider's own terms. No secrets.
    pub facts: BTreeMap<String, Value>,
}

/// Request of [`crate::Provider::register`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct RegisterRequest {
    /// What is being built.
    pub build: Build,
    /// What `upload` returned.
    pub uploaded: Uploaded,
    /// SHA-256 of the image as it was uploaded, `sha256:` and hexadecimal digits: the mark that `inventory` returns as
    /// `disk_digest`. Absent when the host did not compute it. Since 1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_digest: Option<String>,
}

/// A registered image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Image {
    /// Identifier in the cloud, or path of the published file.
    pub id: String,
    /// Name of the image.
    pub name: String,
    /// Region of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// Answer of [`crate::Provider::register`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Registered {
    /// The images, starting with the image in the build's own region.
    pub images: Vec<Image>,
    /// Members added to the result document as `<provider>_<name>`. No secrets.
    pub facts: BTreeMap<String, Value>,
}

/// Why resources are removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DiscardReason {
    /// The build succeeded and no longer needs them.
    #[default]
    Done,
    /// The build failed or was interrupted.
    Failed,
    /// An earlier run left them. Unknown reasons are read as this variant.
    #[serde(other)]
    Leftover,
}

/// Request of [`crate::Provider::discard`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct DiscardRequest {
    /// The run that created the resources.
    pub run_id: String,
    /// Why they are removed.
    pub reason: DiscardReason,
    /// Resources to remove, in this order.
    pub resources: Vec<Resource>,
}

/// A resource that could not be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Remaining {
    /// The resource.
    pub resource: Resource,
    /// Why it still exists.
    pub reason: String,
    /// How to remove it manually.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Answer of [`crate::Provider::discard`]. A resource that no longer exists counts as removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Discarded {
    /// Resources that no longer exist. A resource in neither list counts as remaining.
    pub removed: Vec<Resource>,
    /// Resources that still exist.
    pub remaining: Vec<Remaining>,
}
