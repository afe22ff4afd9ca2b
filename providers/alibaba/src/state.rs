//! Stores what a later attempt of the same run needs. These are hints only: the cloud is asked again.

use build_image_plugin_api::{Resource, document::UploadRequest};
use serde::{Deserialize, Serialize};

use crate::{
    acs::Parameters,
    config::{Config, Place},
    delta::{DeltaState, ManifestState},
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
/// Checkpoint key of the encrypted image.
pub(crate) const ENCRYPTED: &str = "encrypted";
/// Checkpoint key of the region of the instance this runs on.
pub(crate) const NEARBY: &str = "nearby";
/// Checkpoint key of the images that were moved aside.
pub(crate) const MOVED: &str = "moved";

/// Resource kinds of this provider.
pub(crate) const OBJECT: &str = "oss_object";
pub(crate) const MULTIPART: &str = "multipart_upload";
pub(crate) const IMAGE: &str = "image";
/// A snapshot whose image is deleted.
pub(crate) const SNAPSHOT: &str = "snapshot";
/// The name of an image that was moved aside; removing this resource gives the name back.
pub(crate) const RENAMED: &str = "image_name";
/// An image whose name another one has taken; it is deleted when the build is released.
pub(crate) const REPLACED: &str = "replaced_image";

/// The progress of the upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UploadState {
    pub(crate) bucket: String,
    pub(crate) region: String,
    pub(crate) key: String,
    /// Maximum length of the image in bytes, as the parts were planned.
    pub(crate) length: u64,
    /// Identity of the disk's content.
    pub(crate) identity: String,
    pub(crate) part_size: u64,
    /// Known once the service assigned one.
    #[serde(default)]
    pub(crate) upload_id: Option<String>,
    /// CRC-64 of the whole object; known once it is complete.
    #[serde(default)]
    pub(crate) crc: Option<u64>,
    /// Bytes of the whole object; known once it is complete.
    #[serde(default)]
    pub(crate) size: Option<u64>,
    /// The account and the cloud of the upload.
    #[serde(default)]
    pub(crate) owner: Owner,
    /// The blocks of the disk, and the earlier object that has some of them.
    #[serde(default)]
    pub(crate) delta: Option<DeltaState>,
    /// The manifest beside the object.
    #[serde(default)]
    pub(crate) manifest: Option<ManifestState>,
}

/// The resource of an object or an upload. Bucket and key are its identity: a run that is resumed with
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
    /// The state of a new upload.
    pub(crate) fn fresh(
        config: &Config,
        request: &UploadRequest,
        place: &Place,
        plan: &Plan,
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
            delta: None,
            manifest: None,
        }
    }

    /// The object, as recorded by the host.
    pub(crate) fn object(&self, kept: bool) -> Resource {
        let object = self.owner.of_bucket(in_bucket(OBJECT, &self.bucket, &self.key, &self.region));
        if kept { object.as_deliverable() } else { object }
    }

    /// The manifest of the object, as recorded by the host.
    pub(crate) fn manifest_resource(&self, key: &str, kept: bool) -> Resource {
        let object = self.owner.of_bucket(in_bucket(OBJECT, &self.bucket, key, &self.region));
        if kept { object.as_deliverable() } else { object }
    }

    /// The multipart upload, as recorded by the host.
    pub(crate) fn multipart(&self) -> Resource {
        let resource =
            self.owner.of_bucket(in_bucket(MULTIPART, &self.bucket, &self.key, &self.region));
        match &self.upload_id {
            Some(id) => resource.with_id(id),
            None => resource,
        }
    }
}

/// The progress of the import.
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
    /// Failed imports of this run; a new one must not be mistaken for one of these.
    #[serde(default)]
    pub(crate) failures: u32,
    /// The last import failed.
    #[serde(default)]
    pub(crate) failed: bool,
    /// No imported resource is older than this, by the service's clock.
    #[serde(default)]
    pub(crate) since: Option<String>,
    /// The call that starts the import, with its client token.
    #[serde(default)]
    pub(crate) call: Parameters,
    /// CRC-64 and size of the object that is imported; absent in journals of earlier versions.
    #[serde(default)]
    pub(crate) content: Option<(u64, u64)>,
    /// The run; absent in journals of earlier versions, which imported only objects of their own.
    #[serde(default)]
    pub(crate) run: String,
    /// The account and the cloud of the import.
    #[serde(default)]
    pub(crate) owner: Owner,
    /// Whether an encrypted copy of the image is the result of the build.
    #[serde(default)]
    pub(crate) intermediate: bool,
}

impl ImportState {
    /// The image, as recorded by the host.
    pub(crate) fn image(&self) -> Resource {
        let mut resource = Resource::new(IMAGE, &self.name).in_region(&self.region);
        if !self.intermediate {
            resource = resource.as_deliverable();
        }
        resource.id.clone_from(&self.image_id);
        resource = self.owner.of_region(resource);
        resource = resource.with("bucket", &self.bucket).with("object", &self.key);
        let run = Some(self.run.clone()).filter(|run| !run.is_empty());
        for (name, value) in [("task_id", &self.task_id), (SINCE, &self.since), ("run", &run)] {
            if let Some(value) = value {
                resource = resource.with(name, value);
            }
        }
        resource
    }
}
