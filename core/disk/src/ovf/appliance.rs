//! What an OVF descriptor says about a virtual machine, as plain data.

/// A virtual machine with one disk on an LSI Logic SCSI controller.
///
/// Texts may hold anything XML can: they are escaped when the descriptor is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appliance {
    /// The name of the machine.
    pub name: String,
    /// One paragraph about it; also its annotation.
    pub annotation: String,
    /// What is installed.
    pub product: Product,
    /// The licence a user has to accept.
    pub eula: Option<String>,
    /// VMware's virtual hardware version: 10 is written `vmx-10`.
    pub hardware_version: u32,
    /// Processors without a choice of sizes.
    pub cpus: u32,
    /// Memory without a choice of sizes, in MiB.
    pub memory_mib: u32,
    /// Sizes the user may choose from; may be empty.
    pub sizes: Vec<Size>,
    /// Network adapters (VMXNET3), each with a network of its own.
    pub networks: Vec<Network>,
    /// What the user may set when deploying.
    pub properties: Vec<Property>,
}

/// The product section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Product {
    /// The product's name.
    pub name: String,
    /// Who makes it.
    pub vendor: String,
    /// The short version.
    pub version: String,
    /// The version with its build.
    pub full_version: String,
}

/// A size the user may choose: an OVF deployment configuration. All its memory is reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// The configuration's identifier.
    pub id: String,
    /// A few words for the user.
    pub label: String,
    /// Processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Reserved processor time in MHz.
    pub cpu_reservation_mhz: u32,
    /// Whether it is chosen unless the user chooses; exactly one must be.
    pub default: bool,
}

/// A network and the adapter in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The network's name.
    pub name: String,
    /// A few words for the user.
    pub description: String,
}

/// A property which the guest reads from its OVF environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The key with dots: `net.mgmt.addr`.
    pub key: String,
    /// The heading it is shown under.
    pub category: String,
    /// A few words for the user.
    pub label: String,
    /// More words for the user.
    pub description: String,
    /// Whether it must not be shown while it is typed.
    pub password: bool,
}
