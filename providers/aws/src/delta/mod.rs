//! Uploads only the blocks that have changed since an earlier snapshot of the account, of which the new one is an
//! increment.
//!
//! The service does not show digests of blocks without reading them. Each build with AWS_UPLOAD_DELTA therefore writes a
//! second, small snapshot beside that of its disk: the *manifest*, with the SHA-256 of every block. Its tags name the
//! snapshot that it describes, the run, the lineage of the disk, and its own SHA-256. The next build of the lineage finds
//! it on any machine, without a bucket.
//!
//! A manifest that does not fit its tags, or a snapshot that is not as its manifest lists, is not used: the whole disk is
//! sent, and a line says why.
//!
//! Reading order: `settings` → `manifest` (the document) → `earlier` (which earlier snapshot) → `keep` (the new manifest) →
//! `look` (the preflight check).

mod earlier;
mod keep;
mod look;
mod manifest;
mod settings;

use serde::{Deserialize, Serialize};

pub(crate) use self::{
    earlier::Finder,
    keep::{Keeper, remove},
    look::{look, offline},
    manifest::Manifest,
    settings::{Options, settings},
};

/// Tag of a manifest: the snapshot that it describes.
pub(crate) const MANIFEST_OF: &str = "build-image-manifest-of";
/// Tag of a manifest: its SHA-256, `sha256:` and hexadecimal digits.
const DIGEST: &str = "build-image-manifest";
/// Tag of a manifest: the mark of the lineage.
const LINEAGE: &str = "build-image-lineage";
/// Advice when a base cannot be used, or the manifest for the next build not be written.
pub(crate) const HINT: &str = "the image is not affected; the section on delta uploads in the provider's README lists what a base needs";
/// Most marks of a manifest: those above, of the run, of the image, and of one that is kept.
const COUNT: usize = 6;

/// The snapshot that another one is an increment of, as the checkpoint stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parent {
    pub(crate) snapshot: String,
    /// Its manifest, and the SHA-256 of that.
    manifest: String,
    digest: String,
}

/// The manifest that a run writes, as the checkpoint stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    id: String,
    /// Everything was sent, and the service was asked to seal it.
    sealed: bool,
}
