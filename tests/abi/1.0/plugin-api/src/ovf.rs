//! A virtual machine beside its disk, as an OVF descriptor tells it (DMTF DSP0243, version 1.1).

use serde::{Deserialize, Serialize};

/// What the host writes into the descriptor. The disk, its size and the file names are the host's part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ovf {
    /// Name of the machine.
    pub name: String,
    /// Text about the machine; may be empty.
    pub annotation: String,
    /// Product section; absent = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<OvfProduct>,
    /// Licence the user must accept; absent = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eula: Option<String>,
    /// VMware's virtual hardware version: 10 is written `vmx-10`.
    pub hardware_version: u32,
    /// Whether its firmware is UEFI; otherwise it is a BIOS.
    pub uefi: bool,
    /// Processors.
    pub cpus: u32,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// Network adapters in their order, and the network each is connected to.
    pub networks: Vec<OvfNetwork>,
    /// Sizes the user may choose from; empty = none.
    pub configurations: Vec<OvfConfiguration>,
    /// Digest of the manifest: `SHA1` or `SHA256`.
    pub manifest_digest: String,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

/// A network and the adapter in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OvfNetwork {
    /// Name of the network.
    pub name: String,
    /// A few words for the user.
    pub description: String,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

/// Product section of a descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OvfProduct {
    /// Product.
    pub name: String,
    /// Vendor.
    pub vendor: String,
    /// Short version.
    pub version: String,
    /// Full version.
    pub full_version: String,
    /// Values the user may give at deployment.
    pub properties: Vec<OvfProperty>,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

/// A value the user may give at deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OvfProperty {
    /// Key, such as `net.mgmt.addr`.
    pub key: String,
    /// Short label.
    pub label: String,
    /// What it does.
    pub description: String,
    /// Heading it is shown under; empty = none.
    pub category: String,
    /// Not shown when typed.
    pub password: bool,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}

/// A size the user may choose at deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OvfConfiguration {
    /// Identifier.
    pub id: String,
    /// Short label.
    pub label: String,
    /// More words for the user.
    pub description: String,
    /// Processors.
    pub cpus: u32,
    /// Reserved processor time, MHz; 0 = none.
    pub reserved_mhz: u32,
    /// Memory, MiB; all of it is reserved.
    pub memory_mib: u32,
    /// Used when the user does not choose.
    pub default: bool,
    #[doc(hidden)]
    #[serde(skip)]
    pub _end_with_default: (),
}
