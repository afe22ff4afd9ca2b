//! Writes OVF: the description of a virtual machine, its descriptor, and its manifest.
//!
//! ```text
//! appliance.rs   the machine as plain data         manifest.rs   digests and their signature
//! descriptor.rs  the XML around it                 hardware.rs   its hardware section
//! xml.rs         elements, indented and escaped
//! ```
//!
//! The package around them, with the disk, is [`crate::pack::OvfPackage`].

mod appliance;
mod descriptor;
mod hardware;
mod manifest;
#[cfg(test)]
mod tests;
mod xml;

pub use appliance::{Appliance, Network, Product, Property, Size};
pub use descriptor::DiskFile;
pub use manifest::{ManifestDigest, Sign, Signature};
