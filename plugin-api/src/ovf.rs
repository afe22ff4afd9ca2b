//! Describes the virtual machine beside a disk, as it is written into an OVF descriptor (DMTF DSP0243, version
//! 1.1).

use serde::{Deserialize, Serialize};

/// The provider's part of the descriptor. The host adds the disk, its size and the file names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Ovf {
    /// Name of the machine.
    pub name: String,
    /// Description of the machine; may be empty.
    pub annotation: String,
    /// Product section; absent = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<OvfProduct>,
    /// Licence that the user must accept; absent = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eula: Option<String>,
    /// VMware's virtual hardware version: 10 is written as `vmx-10`.
    pub hardware_version: u32,
    /// Whether the firmware is UEFI; otherwise it is a BIOS.
    pub uefi: bool,
    /// Processors.
    pub cpus: u32,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// Network adapters in order, with the network that each is connected to.
    pub networks: Vec<OvfNetwork>,
    /// Sizes the user may choose from; empty = none.
    pub configurations: Vec<OvfConfiguration>,
    /// Digest algorithm of the manifest: `SHA1` or `SHA256`.
    pub manifest_digest: String,
}

/// A network and the adapter that is connected to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct OvfNetwork {
    /// Name of the network.
    pub name: String,
    /// Short description for the user.
    pub description: String,
}

/// Product section of a descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct OvfProduct {
    /// Product.
    pub name: String,
    /// Vendor.
    pub vendor: String,
    /// Short version.
    pub version: String,
    /// Full version.
    pub full_version: String,
    /// Values that the user may set at deployment.
    pub properties: Vec<OvfProperty>,
}

/// A value that the user may set at deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct OvfProperty {
    /// Key, such as `net.mgmt.addr`.
    pub key: String,
    /// Short label.
    pub label: String,
    /// Description of its effect.
    pub description: String,
    /// Heading under which it is shown; empty = none.
    pub category: String,
    /// Hidden while it is typed.
    pub password: bool,
}

/// A size that the user may choose at deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct OvfConfiguration {
    /// Identifier.
    pub id: String,
    /// Short label.
    pub label: String,
    /// Longer description for the user.
    pub description: String,
    /// Processors.
    pub cpus: u32,
    /// Reserved processor time, MHz; 0 = none.
    pub reserved_mhz: u32,
    /// Memory, MiB; all of it is reserved.
    pub memory_mib: u32,
    /// Used when the user does not choose a size.
    pub default: bool,
}
