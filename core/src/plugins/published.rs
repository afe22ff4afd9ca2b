//! Publishes an image that was handed out: gives it its file in IMAGE_DIR.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use build_image_disk::{
    Error as DiskError, Kind,
    pack::{Digests, Growing},
    view::{OnProgress, View, materialise},
};
use build_image_plugin_api::{Error, ErrorKind, Result};

use super::{disks::ImageOutput, host::disk_error};

/// An image that was handed out.
pub(crate) struct ImageHandle {
    file_name: String,
    form: Mutex<Option<ImageOutput>>,
}

/// What is needed to read an image.
enum Reading {
    View(Arc<dyn View>),
    File(Arc<Growing>),
}

/// A file in IMAGE_DIR.
pub(crate) struct Published {
    /// Its path.
    pub(crate) path: PathBuf,
    /// Its length, in bytes.
    pub(crate) length: u64,
    /// Digests that were computed while it was written.
    pub(crate) digests: Digests,
}

impl ImageHandle {
    pub(super) fn new(file_name: String, form: ImageOutput) -> Self {
        Self { file_name, form: Mutex::new(Some(form)) }
    }

    /// Fills the buffer from byte `offset` of the image; returns fewer bytes only at its end.
    pub(crate) fn read_at(
        &self,
        buffer: &mut [u8],
        offset: u64,
        watch: &dyn Fn() -> ControlFlow<()>,
    ) -> Result<usize> {
        let reading = match &*self.form.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(ImageOutput::View(view)) => Reading::View(Arc::clone(view)),
            Some(ImageOutput::File(file)) => Reading::File(Arc::clone(file)),
            None => return Err(Error::new(ErrorKind::NotFound, "the disk was published")),
        };
        match reading {
            Reading::View(view) => view.read_at(buffer, offset),
            Reading::File(file) => file.read_at(buffer, offset, watch),
        }
        .map_err(disk_error)
    }

    /// Stops writing an image that was not published. Its file, if any, is removed.
    pub(super) fn forget(&self) {
        let form = self.form.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last reader removes its file.
        drop(form);
    }

    /// Writes the image into a directory, complete or not at all. A file that is being written is finished
    /// under its own path, without a copy.
    pub(crate) fn publish(
        &self,
        directory: &Path,
        progress: OnProgress<'_>,
    ) -> Result<Published, DiskError> {
        let in_use_error = || DiskError::new(Kind::Tool, "the provider still reads the image");
        let form = self.form.lock().unwrap_or_else(PoisonError::into_inner).take();
        match form.ok_or_else(in_use_error)? {
            ImageOutput::View(view) => {
                let path = directory.join(&self.file_name);
                materialise(view.as_ref(), &path, progress)?;
                Ok(Published { path, length: view.len(), digests: Digests::default() })
            }
            ImageOutput::File(file) => {
                let packed = Arc::into_inner(file).ok_or_else(in_use_error)?.finish()?;
                Ok(Published { path: packed.path, length: packed.length, digests: packed.digests })
            }
        }
    }
}
