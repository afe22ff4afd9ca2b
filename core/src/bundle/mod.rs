//! Bundles: an image that one user builds without credentials of a cloud, and another user registers.
//!
//! A bundle is an uncompressed tar archive ([`build_image_disk::pack::plain_tar`]) with these members, in this order:
//!
//! ```text
//! bundle.json          what is in the bundle and what it is for, with the digest of every other member
//! bundle.json.*.sig    its signature, if the builder has a key: digest and suffix as those of published images
//! provenance.json      the provenance statement
//! image.qcow2 …        the image, byte for byte as the provider uploads it
//! ```
//!
//! ```text
//! document.rs  bundle.json                   write.rs   writes a bundle
//! open.rs      reads a bundle and verifies   policy.rs  who may publish it, where, and until when
//! image.rs     the image as a view
//! ```

mod document;
mod image;
mod open;
mod policy;
#[cfg(test)]
mod tests;
mod write;

pub use document::{BundledImage, BundledMember, Document, ImageRequest};
pub use image::BundleImage;
pub use open::{Bundle, is_same_image};
pub(crate) use policy::texts;
pub use policy::{Policy, check_regions, expiry};
pub(crate) use write::{Contents, write};

/// Name of the first member.
const DOCUMENT: &str = "bundle.json";
/// Name of the provenance statement.
const STATEMENT: &str = "provenance.json";
/// Number of bytes that are read and written at once, and that one digest of an open bundle covers.
const CHUNK: usize = 1 << 20;
