//! Declares a provider's properties as data, so that the host can plan, validate and explain without
//! provider-specific code.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Architecture, BootMode, DiskSpec, Setting};

/// How complete a provider is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// All steps are implemented.
    #[default]
    Stable,
    /// Makes the disk that its cloud needs; upload and register answer `unsupported` with manual commands.
    #[serde(rename = "stub")]
    DiskOnly,
    /// A status of a later version.
    #[serde(other)]
    Unknown,
}

/// The ABI a provider was built with and the oldest one it supports, each `major.minor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default = "AbiRange::unstated")]
#[non_exhaustive]
pub struct AbiRange {
    /// ABI of the crate it was built with.
    pub built: String,
    /// Oldest host ABI it works on.
    pub requires: String,
}

impl Default for AbiRange {
    fn default() -> Self {
        Self { built: crate::ABI_VERSION.to_owned(), requires: "1.0".to_owned() }
    }
}

impl AbiRange {
    /// Returns what a document without these members means, whatever the version of its reader: ABI 1.0.
    fn unstated() -> Self {
        Self { built: "1.0".to_owned(), ..Self::default() }
    }
}

/// Everything a provider declares. Pure data: the same answer every time, without I/O.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Description {
    /// Lower-case name, `[a-z][a-z0-9_]*`; equals the name in the plugin's file name.
    pub name: String,
    /// The provider's own version.
    pub version: String,
    /// Summary, one sentence without a full stop.
    pub summary: String,
    /// How complete it is.
    pub status: Status,
    /// Home page.
    pub homepage: String,
    /// SPDX expression.
    pub license: String,
    /// ABI versions; leave the default.
    #[serde(default = "AbiRange::unstated")]
    pub abi: AbiRange,
    /// Rows of settings.
    pub settings: Vec<Setting>,
    /// The disk it needs.
    pub disk: DiskNeeds,
    /// What is written into the guest, and what the guest must have.
    pub guest: GuestNeeds,
    /// Rules for the image's name; absent = file names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_name: Option<NameRules>,
    /// Limits on tags; absent = the cloud has no tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<TagRules>,
    /// True when the image leaves this machine: builds may stop before the upload (`NO_UPLOAD`).
    pub uploads: bool,
    /// Optional capabilities, lower-case words; unknown ones are ignored.
    pub capabilities: Vec<String>,
}

/// Declares [`DiskNeeds`] with its limits: each is an optional number of bytes, with a method that sets it, and with a
/// label for people. Hosts read 0 as no limit.
macro_rules! disk_needs {
    ($($(#[doc = $doc:literal])+ $limit:ident = $label:literal,)+) => {
        /// The disk that a provider needs, before any size is known.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
        #[serde(default)]
        #[non_exhaustive]
        pub struct DiskNeeds {
            /// What the default `create_disk` requests.
            pub spec: DiskSpec,
            /// What is written into IMAGE_DIR, when it differs from `spec`.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub package: Option<DiskSpec>,
            $(
                $(#[doc = $doc])+
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $limit: Option<u64>,
            )+
        }

        impl DiskNeeds {
            $(
                $(#[doc = $doc])+
                #[must_use]
                pub fn $limit(mut self, bytes: u64) -> Self {
                    self.$limit = Some(bytes);
                    self
                }
            )+

            /// Returns the limits that are set: label and number of bytes.
            #[must_use]
            pub fn limits(&self) -> Vec<(&'static str, u64)> {
                [$(($label, self.$limit)),+]
                    .into_iter()
                    .filter_map(|(label, limit)| Some((label, limit?)))
                    .collect()
            }

            /// Sets every limit, for examples of the contract.
            #[doc(hidden)]
            #[must_use]
            pub fn with_every_limit(self, bytes: u64) -> Self {
                self$(.$limit(bytes))+
            }
        }
    };
}

disk_needs! {
    /// Smallest virtual size in bytes; smaller disks are grown before the installation.
    minimum_bytes = "for an installation at least",
    /// Largest virtual size in bytes.
    maximum_bytes = "at most",
    /// The virtual size must be a multiple of this many bytes.
    multiple_of_bytes = "a multiple of",
}

/// What is written into the installed guest, and what the guest must have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct GuestNeeds {
    /// Hypervisor word written into the guest (`alibaba`); absent = no cloud preparation of the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<String>,
    /// Smallest version per product name (`BIG-IP` → `14.1.0.3`).
    pub minimum_version: BTreeMap<String, String>,
    /// Additional volumes the guest needs, by name.
    pub volumes: Vec<String>,
    /// Omit the installer's last step, which completes the boot loader in a way that some clouds do not accept.
    pub skip_boot_fixup: bool,
    /// Further wishes, by name. An installer meets those that it knows and ignores the others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub wishes: BTreeMap<String, Value>,
    /// What the machines of the platform need from a disk. The host compares it with what is on the disk before
    /// the upload. Absent = nothing is known, and only general faults are found. Since 1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machines: Option<MachineNeeds>,
}

/// What the machines of a platform need to start from a disk and to be reachable. An absent or empty member needs
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct MachineNeeds {
    /// Architectures of which the disk must have one.
    pub architectures: Vec<Architecture>,
    /// Firmware of the machines.
    pub firmware: Vec<BootMode>,
    /// Whether the disk must start with every firmware of the list, and not just with one of them.
    pub every_firmware: bool,
    /// Partitioning schemes that work: `MBR`, `GPT`.
    pub schemes: Vec<String>,
    /// Drivers of disks, one row per kind of machine.
    pub disks: Vec<DriverNeed>,
    /// Drivers of networks, one row per kind of machine.
    pub networks: Vec<DriverNeed>,
    /// The console that the platform records, such as `ttyS0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
    /// Agents of which one configures a machine from the platform's data, such as `cloud-init`.
    pub agents: Vec<String>,
    /// Whether machines have Secure Boot on.
    pub secure_boot: bool,
}

/// Drivers of a device, of which a guest needs one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct DriverNeed {
    /// The device, for messages: `the disk of NVMe instances`.
    pub device: String,
    /// Names of modules, as `lsmod` prints them.
    pub one_of: Vec<String>,
    /// Whether other machines of the platform work without the device.
    pub optional: bool,
}

impl DriverNeed {
    /// Creates the need of one driver of `one_of`.
    pub fn new(
        device: impl Into<String>,
        one_of: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let one_of = one_of.into_iter().map(Into::into).collect();
        Self { device: device.into(), one_of, optional: false }
    }
}

/// Case that an image name is converted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LetterCase {
    /// Lower-case.
    Lower,
    /// Unchanged. Unknown words are read as this variant.
    #[default]
    #[serde(other)]
    Keep,
}

/// Rules for the name of a registered image. A length of 0 means unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct NameRules {
    /// Fewest characters.
    pub minimum_length: usize,
    /// Most characters.
    pub maximum_length: usize,
    /// Regular expression a name must match as a whole.
    pub pattern: String,
    /// The rule as a text, for error messages.
    pub explanation: String,
    /// Regular expression of single characters that are replaced by `-` in composed names.
    pub replace: String,
    /// Case of composed names.
    pub letter_case: LetterCase,
    /// Prefixes that are not allowed, compared without case.
    pub forbidden_prefixes: Vec<String>,
    /// Texts that must not occur.
    pub forbidden_texts: Vec<String>,
}

/// Limits on tags. A limit of 0 means unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct TagRules {
    /// Most tags per image.
    pub maximum: usize,
    /// Longest key, in characters.
    pub key_length: usize,
    /// Longest value, in characters.
    pub value_length: usize,
    /// Prefixes a key must not have, compared without case.
    pub forbidden_key_prefixes: Vec<String>,
    /// Prefixes a value must not have, compared without case.
    pub forbidden_value_prefixes: Vec<String>,
    /// Texts that must not occur in key or value.
    pub forbidden_texts: Vec<String>,
    /// Keys that differ only by case are the same key.
    pub keys_ignore_case: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_fields_have_defaults_and_unknown_ones_are_ignored() {
        let read: Description = serde_json::from_str(r#"{"name":"x","later":{"a":1}}"#).unwrap();
        let abi = AbiRange { built: "1.0".into(), ..AbiRange::default() };
        assert_eq!(read, Description { name: "x".into(), abi, ..Description::default() });
    }
}
