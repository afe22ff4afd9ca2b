//! Reads a state directory from outside, with or without an emulator running on it: counts, images, and an
//! image's disk as the guest would see it.

use std::collections::BTreeMap;
use std::path::Path;

use build_image_disk::format::export_raw;
use serde::Serialize;
use serde_json::Value;

use crate::clock;
use crate::ecs;
use crate::state::{StateError, Store};

/// An image as listed.
#[derive(Debug, Clone, Serialize)]
pub struct StoredImage {
    /// `m-…`.
    pub id: String,
    /// Region id.
    pub region: String,
    /// Image name.
    pub name: String,
    /// Size of the system disk in GiB.
    pub size: u64,
    /// Format of the system disk.
    pub format: String,
    /// Architecture.
    pub architecture: String,
    /// `linux` or `windows`.
    pub os_type: String,
    /// Distribution, as `Platform` names it.
    pub platform: String,
    /// `BIOS` or `UEFI`.
    pub boot_mode: String,
    /// Whether it is declared to have NVMe drivers: `supported` or `unsupported`.
    pub nvme: String,
    /// Creation time, ISO 8601.
    pub created: String,
    /// Bucket and object of the system disk, as `bucket/object`.
    pub source: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// An image's disk that cannot be written out.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The image does not exist.
    #[error("there is no image `{0}`; `images` lists those there are")]
    NoImage(String),
    /// The import has not inspected the object yet.
    #[error("the import of `{0}` is not done; try again when its task is finished")]
    NotReady(String),
    /// The state directory cannot be read.
    #[error("the state directory is unusable")]
    State(#[from] StateError),
    /// The disk cannot be read or the copy not written.
    #[error("cannot export the disk of `{image}`")]
    Disk {
        /// The image.
        image: String,
        /// The reason.
        source: build_image_disk::Error,
    },
}

/// A state directory, opened for reading only.
#[derive(Debug)]
pub struct Stored {
    store: Store,
}

impl Stored {
    /// Reads the directory.
    ///
    /// # Errors
    /// States what cannot be read.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        Ok(Self { store: Store::look(path)? })
    }

    /// The numbers of buckets, objects, open uploads, images, snapshots, and tasks.
    #[must_use]
    pub fn status(&self) -> Value {
        self.store.world().counts()
    }

    /// All images, oldest first.
    #[must_use]
    pub fn images(&self) -> Vec<StoredImage> {
        let world = self.store.world();
        let mut images: Vec<_> = world.images.iter().collect();
        images.sort_by_key(|image| image.created);
        images
            .into_iter()
            .filter_map(|image| {
                let disk = image.disks.first()?;
                Some(StoredImage {
                    id: image.id.clone(),
                    region: image.region.clone(),
                    name: image.name.clone(),
                    size: disk.size,
                    format: disk.format.clone(),
                    architecture: image.architecture.clone(),
                    os_type: image.os_type.clone(),
                    platform: image.platform.clone(),
                    boot_mode: image.boot_mode.clone(),
                    nvme: image.nvme.clone(),
                    created: clock::iso(image.created),
                    source: format!("{}/{}", disk.bucket, disk.object),
                    tags: image.tags.clone(),
                })
            })
            .collect()
    }

    /// Writes the system disk of an image to `dest` as a sparse raw disk.
    ///
    /// # Errors
    /// States whether the image, the disk, or the destination is the cause.
    pub fn export(&self, image: &str, dest: &Path) -> Result<(), ExportError> {
        let missing_error = || ExportError::NoImage(image.to_owned());
        let disk = {
            let world = self.store.world();
            let found = world.images.get(image).ok_or_else(missing_error)?;
            found.disks.first().cloned().ok_or_else(missing_error)?
        };
        let disk_error = |source| ExportError::Disk { image: image.to_owned(), source };
        let guest = ecs::guest_of(&self.store, &disk)?
            .ok_or_else(|| ExportError::NotReady(image.to_owned()))?
            .map_err(disk_error)?;
        export_raw(&guest, dest).map_err(disk_error)
    }
}
