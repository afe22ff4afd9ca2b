//! Describes the virtual machine of an OVF descriptor as plain data.

use crate::error::{Error, Kind};

/// A virtual machine with one disk on an LSI Logic SCSI controller and a 64-bit Linux.
///
/// Texts may contain every character that XML supports; they are escaped when the descriptor is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appliance {
    /// The name of the machine.
    pub name: String,
    /// One paragraph for the notes of the machine.
    pub annotation: String,
    /// The installed product.
    pub product: Product,
    /// The licence that a user has to accept.
    pub eula: Option<String>,
    /// VMware's virtual hardware version: 10 is written `vmx-10`.
    pub hardware_version: u32,
    /// Whether the firmware is UEFI; BIOS otherwise.
    pub uefi: bool,
    /// Number of processors, if the user cannot choose a size.
    pub cpus: u32,
    /// Memory in MiB, if the user cannot choose a size.
    pub memory_mib: u32,
    /// Sizes that the user can choose from; may be empty.
    pub sizes: Vec<Size>,
    /// Network adapters (VMXNET3), each in a separate network.
    pub networks: Vec<Network>,
    /// Properties that the user can set during deployment.
    pub properties: Vec<Property>,
}

/// The product section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Product {
    /// The product's name.
    pub name: String,
    /// The vendor of the product.
    pub vendor: String,
    /// The short version.
    pub version: String,
    /// The version with its build.
    pub full_version: String,
}

/// A size that the user can choose: an OVF deployment configuration. All its memory is reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// The configuration's identifier.
    pub id: String,
    /// A short label for the user.
    pub label: String,
    /// A sentence for the user.
    pub description: String,
    /// Processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Reserved processor time in MHz.
    pub cpu_reservation_mhz: u32,
    /// Whether this size is the default; exactly one is.
    pub default: bool,
}

/// A network and the adapter in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The network's name.
    pub name: String,
    /// A sentence for the user.
    pub description: String,
}

/// A property which the guest reads from its OVF environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The key, such as `net.mgmt.addr`.
    pub key: String,
    /// The heading of the property; adjacent properties with the same heading share it.
    pub category: String,
    /// A short label for the user.
    pub label: String,
    /// A sentence for the user.
    pub description: String,
    /// Whether the value must be hidden while it is typed.
    pub password: bool,
}

impl Appliance {
    /// Creates a machine with the usual configuration: hardware version 10, BIOS, 2 processors, 4 GiB,
    /// adapters in the networks Management, Internal, External, and HA, no sizes, no properties.
    pub fn new(name: impl Into<String>, product: Product) -> Self {
        let network = |name: &str| Network {
            name: name.to_owned(),
            description: format!("The network of the {name} interface"),
        };
        Self {
            name: name.into(),
            annotation: String::new(),
            product,
            eula: None,
            hardware_version: 10,
            uefi: false,
            cpus: 2,
            memory_mib: 4096,
            sizes: Vec::new(),
            networks: ["Management", "Internal", "External", "HA"].map(network).into(),
            properties: Vec::new(),
        }
    }

    /// Checks everything that a descriptor must not contain, before a long operation starts.
    pub(super) fn check(&self) -> Result<(), Error> {
        let unsupported = |message: String| Err(Error::new(Kind::Unsupported, message));
        if let Some((what, text)) = self.texts().find(|(_, text)| !text.chars().all(is_xml)) {
            let message = format!("{what} has a character no XML may hold: {text:?}");
            return Err(Error::new(Kind::Unsupported, message)
                .with_hint("remove control characters other than tab and line ends"));
        }
        if !self.sizes.is_empty() && self.sizes.iter().filter(|size| size.default).count() != 1 {
            return unsupported("exactly one of the appliance's sizes must be the default".into());
        }
        let names = [
            ("size", self.sizes.iter().map(|size| size.id.as_str()).collect::<Vec<_>>()),
            ("network", self.networks.iter().map(|network| network.name.as_str()).collect()),
            ("property", self.properties.iter().map(|property| property.key.as_str()).collect()),
        ];
        for (what, mut names) in names {
            names.sort_unstable();
            if names.first().is_some_and(|name| name.is_empty()) {
                return unsupported(format!("a {what} of the appliance has no name"));
            }
            if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
                return unsupported(format!("the appliance has two of {what} `{}`", pair[0]));
            }
        }
        Ok(())
    }

    /// Returns every text with its description.
    fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let product = &self.product;
        let own = [
            ("the appliance's name", self.name.as_str()),
            ("the annotation", &self.annotation),
            ("the product's name", &product.name),
            ("the vendor", &product.vendor),
            ("the version", &product.version),
            ("the full version", &product.full_version),
            ("the licence", self.eula.as_deref().unwrap_or_default()),
        ];
        let sizes = self.sizes.iter().flat_map(|size| [&size.id, &size.label, &size.description]);
        let networks = self.networks.iter().flat_map(|net| [&net.name, &net.description]);
        let properties = self
            .properties
            .iter()
            .flat_map(|item| [&item.key, &item.category, &item.label, &item.description]);
        own.into_iter()
            .chain(sizes.map(|text| ("a size", text.as_str())))
            .chain(networks.map(|text| ("a network", text.as_str())))
            .chain(properties.map(|text| ("a property", text.as_str())))
    }
}

/// Returns whether XML can contain the character. Source: XML 1.0 (fifth edition), production 2; a `char` is
/// never a surrogate.
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}
