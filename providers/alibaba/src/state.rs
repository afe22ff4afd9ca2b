//! What a later attempt of the same run needs to know. Hints only: the cloud is asked again.

use build_image_plugin_api::{Resource, document::UploadRequest};
use serde::{Deserialize, Serialize};

use crate::{
    acs::Parameters,
    config::{Config, Place},
    names,
    owner::Owner,
    parts::Plan,
    snapshots::SINCE,
};

/// Checkpoint key of [`UploadState`].
pub(crate) const UPLOAD: &str = "upload";
/// Checkpoint key of [`ImportState`].
pub(crate) const IMPORT: &str = "import";
/// Checkpoint key of the account that the run belongs to.
pub(crate) const ACCOUNT: &str = "account";
/// Checkpoint key of the copies.
pub(crate) const COPIES: &str = "copies";
/// Checkpoint key of the region of the instance this runs on.
pub(crate) const NEARBY: &str = "nearby";
/// Checkpoint key of the images that were moved aside.
pub(crate) const MOVED: &str = "moved";

/// Resource kinds of this provider.
pub(crate) const OBJECT: &str = "oss_object";
pub(crate) const MULTIPART: &str = "multipart_upload";
pub(crate) const IMAGE: &str = "image";
/// The name of an image that was moved aside; removing it means giving the name back.
pub(crate) const RENAMED: &str = "image_name";
/// An image whose name another one has taken; it is deleted when the build is released.
pub(crate) const REPLACED: &str = "replaced_image";

/// How far the upload is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UploadState {
    pub(crate) bucket: String,
    pub(crate) region: String,
    pub(crate) key: String,
    /// Length of the image in bytes, at most, as the parts were planned.
    pub(crate) length: u64,
    /// Identity of the disk's content.
    pub(crate) identity: String,
    pub(crate) part_size: u64,
    /// Known once the service gave one.
    #[serde(default)]
    pub(crate) upload_id: Option<String>,
    /// CRC-64 of the whole object; known once it is complete.
    #[serde(default)]
    pub(crate) crc: Option<u64>,
    /// Bytes of the whole object; known once it is complete.
    #[serde(default)]
    pub(crate) size: Option<u64>,
    /// Who uploads, and to which cloud.
    #[serde(default)]
    pub(crate) owner: Owner,
}

/// An object's or an upload's resource. Bucket and key are its identity: a run that is resumed with
/// another bucket has two.
pub(crate) fn in_bucket(kind: &str, bucket: &str, key: &str, region: &str) -> Resource {
    Resource::new(kind, format!("{bucket}/{key}"))
        .in_region(region)
        .with("bucket", bucket)
        .with("key", key)
}

/// The key of such a resource. Journals of earlier versions have it as the resource's name.
pub(crate) fn key_of(resource: &Resource) -> &str {
    resource.attributes.get("key").unwrap_or(&resource.name)
}

impl UploadState {
    /// The state of an upload that begins.
    pub(crate) fn fresh(
        config: &Config,
        request: &UploadRequest,
        place: &Place,
        plan: Plan,
        owner: Owner,
    ) -> Self {
        let disk = &request.disk;
        let run = &request.build.run_id;
        Self {
            bucket: place.bucket.clone(),
            region: place.region.clone(),
            key: names::object_key(&config.prefix, run, &disk.file_name, disk.spec.format),
            length: plan.length,
            identity: disk.identity.clone(),
            part_size: plan.part_size,
            upload_id: None,
            crc: None,
            size: None,
            owner,
        }
    }

    /// The object, as the host writes it down.
    pub(crate) fn object(&self, kept: bool) -> Resource {
        let object = self.owner.of_bucket(in_bucket(OBJECT, &self.bucket, &self.key, &self.region));
        if kept { object.as_deliverable() } else { object }
    }

    /// The multipart upload, as the host writes it down.
    pub(crate) fn multipart(&self) -> Resource {
        let resource =
            self.owner.of_bucket(in_bucket(MULTIPART, &self.bucket, &self.key, &self.region));
        match &self.upload_id {
            Some(id) => resource.with_id(id),
            None => resource,
        }
    }
}

/// How far the import is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImportState {
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) bucket: String,
    pub(crate) key: String,
    /// Known once `ImportImage` answered.
    #[serde(default)]
    pub(crate) image_id: Option<String>,
    /// Known once `ImportImage` answered; an adopted image has none.
    #[serde(default)]
    pub(crate) task_id: Option<String>,
    /// Imports of this run that ended in failure; a new one must not be taken for an old one.
    #[serde(default)]
    pub(crate) failures: u32,
    /// The last import failed.
    #[serde(default)]
    pub(crate) failed: bool,
    /// Nothing that was imported is older than this, by the service's clock.
    #[serde(default)]
    pub(crate) since: Option<String>,
    /// The call that starts the import, with its client token.
    #[serde(default)]
    pub(crate) call: Parameters,
    /// CRC-64 and size of the object that is imported; absent in journals of earlier versions.
    #[serde(default)]
    pub(crate) content: Option<(u64, u64)>,
    /// Who imports, and into which cloud.
    #[serde(default)]
    pub(crate) owner: Owner,
}

impl ImportState {
    /// The image, as the host writes it down.
    pub(crate) fn image(&self) -> Resource {
        let mut resource =
            Resource::new(IMAGE, &self.name).in_region(&self.region).as_deliverable();
        resource.id.clone_from(&self.image_id);
        resource = self.owner.of_region(resource);
        resource = resource.with("bucket", &self.bucket).with("object", &self.key);
        for (name, value) in [("task_id", &self.task_id), (SINCE, &self.since)] {
            if let Some(value) = value {
                resource = resource.with(name, value);
            }
        }
        resource
    }
}
