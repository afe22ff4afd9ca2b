//! Names what the provider stores and creates: checkpoints and kinds of resources.

use sha2::{Digest as _, Sha256};

use crate::ebs::hex;

/// Checkpoint of the snapshot that is written directly.
pub(crate) const SNAPSHOT_STATE: &str = "snapshot";
/// Checkpoint of the blocks that the service has.
pub(crate) const BLOCKS_STATE: &str = "blocks";
/// Checkpoint of the upload to a bucket and of the import.
pub(crate) const IMPORT_STATE: &str = "import";
/// Checkpoint of the images by region.
pub(crate) const IMAGES_STATE: &str = "images";

/// A snapshot of the run.
pub(crate) const SNAPSHOT: &str = "snapshot";
/// The snapshot with the manifest of a snapshot of the run.
pub(crate) const MANIFEST: &str = "manifest_snapshot";
/// An image of the run.
pub(crate) const IMAGE: &str = "image";
/// An image that was deregistered for its name; its undo registers it again.
pub(crate) const DEREGISTERED: &str = "deregistered_image";
/// A snapshot of a deregistered image; it is deleted after the release.
pub(crate) const REPLACED: &str = "replaced_snapshot";
/// The object in the bucket.
pub(crate) const OBJECT: &str = "s3_object";
/// An unfinished upload to the bucket.
pub(crate) const MULTIPART: &str = "multipart_upload";
/// An import task with its snapshot.
pub(crate) const IMPORT: &str = "import_task";

/// Returns a token that is the same for equal parts: the vendor answers a repeated request with what the first created.
pub(crate) fn token(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    // Tokens have at most 64 characters.
    hex(&hasher.finalize()[..24])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_depend_on_every_part() {
        let one = token(&["a", "bc"]);
        assert_eq!((one.len(), &one), (48, &token(&["a", "bc"])));
        assert_ne!(one, token(&["ab", "c"]));
    }
}
