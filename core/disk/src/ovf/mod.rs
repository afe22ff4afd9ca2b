//! OVF: what a virtual machine looks like ([`Appliance`]), its descriptor, its manifest.
//!
//! The package around them, with the disk, is [`crate::pack::OvfPackage`].

mod appliance;
mod manifest;

pub use appliance::{Appliance, Network, Product, Property, Size};
pub use manifest::{ManifestDigest, Sign, Signature};
