//! Writes OVF: the description of a virtual machine, its descriptor, and its manifest. Reads the descriptors and manifests of others.
//!
//! ```text
//! appliance.rs   the machine as plain data         manifest.rs   digests and their signature
//! descriptor.rs  the XML around it                 hardware.rs   its hardware section
//! xml.rs         elements, indented and escaped     machine.rs    a descriptor that is read
//! listed.rs      a manifest that is read
//! ```
//!
//! The package around them, with the disk, is [`crate::pack::OvfPackage`].

mod appliance;
mod descriptor;
mod hardware;
mod listed;
mod machine;
mod manifest;
#[cfg(test)]
mod tests;
mod xml;

pub use appliance::{Appliance, Network, Product, Property, Size};
pub use descriptor::DiskFile;
pub(crate) use listed::{Digests, Hashed, Manifest};
pub use machine::Machine;
pub use manifest::{ManifestDigest, Sign, Signature};
