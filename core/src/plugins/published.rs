//! Publishes an image that was handed out: gives it its file in IMAGE_DIR.

use std::{
    fs::{self, File},
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use build_image_disk::{
    Error as DiskError, Kind,
    pack::{DigestKinds, Digests, Growing, Packed},
    view::{OnProgress, View, materialise, materialise_new},
};
use build_image_files::AtomicFile;
use build_image_plugin_api::{Error, ErrorKind, Result};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use super::{disks::ImageOutput, host::disk_error};
use crate::signature::Algorithm;

/// An image that was handed out.
pub(crate) struct ImageHandle {
    file_name: String,
    form: Mutex<Option<ImageOutput>>,
    /// The digests of its file, and what the other one is.
    kinds: (DigestKinds, Option<Algorithm>),
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
    pub(crate) digests: FileDigests,
}

/// Digests of a file, hexadecimal.
pub(crate) type FileDigests = Vec<(Algorithm, String)>;

impl ImageHandle {
    pub(super) fn new(
        file_name: String,
        form: ImageOutput,
        kinds: (DigestKinds, Option<Algorithm>),
    ) -> Self {
        Self { file_name, form: Mutex::new(Some(form)), kinds }
    }

    /// Returns the length of the image in bytes if it is known, otherwise the maximum length; 0 after it was published.
    pub(super) fn length_limit(&self) -> u64 {
        match &*self.form.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(ImageOutput::View(view)) => view.len(),
            Some(ImageOutput::File(file)) => file.length_limit(),
            None => 0,
        }
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
        match self.take()? {
            ImageOutput::View(view) => {
                let path = directory.join(&self.file_name);
                let digests = materialise(view.as_ref(), &path, self.kinds.0, progress)?;
                Ok(Published { path, length: view.len(), digests: self.named(digests) })
            }
            ImageOutput::File(file) => {
                let packed = sole(file)?.finish()?;
                let digests = self.named(packed.digests);
                Ok(Published { path: packed.path, length: packed.length, digests })
            }
        }
    }

    /// Writes the image to a file that must not exist. A file that is being written is finished and gets this path; it
    /// is copied only into another file system.
    pub(crate) fn write_to(
        &self,
        path: &Path,
        progress: OnProgress<'_>,
    ) -> Result<Published, DiskError> {
        let (length, digests) = match self.take()? {
            ImageOutput::View(view) => {
                let digests = materialise_new(view.as_ref(), path, self.kinds.0, progress)?;
                (view.len(), digests)
            }
            ImageOutput::File(file) => {
                let Packed { path: from, length, digests } = sole(file)?.finish()?;
                move_to(&from, path).map_err(|error| {
                    // Nothing but this image is at the path.
                    let _ = fs::remove_file(&from);
                    DiskError::io("cannot write", path, error)
                })?;
                (length, digests)
            }
        };
        Ok(Published { path: path.to_owned(), length, digests: self.named(digests) })
    }

    fn named(&self, digests: Digests) -> FileDigests {
        [
            (Some(Algorithm::Md5), digests.md5),
            (Some(Algorithm::Sha256), digests.sha256),
            (self.kinds.1, digests.other),
        ]
        .into_iter()
        .filter_map(|(algorithm, text)| Some((algorithm?, text?)))
        .collect()
    }

    fn take(&self) -> Result<ImageOutput, DiskError> {
        let form = self.form.lock().unwrap_or_else(PoisonError::into_inner).take();
        form.ok_or_else(in_use)
    }
}

/// Takes a file out of its handle.
fn sole(file: Arc<Growing>) -> Result<Growing, DiskError> {
    Arc::into_inner(file).ok_or_else(in_use)
}

fn in_use() -> DiskError {
    DiskError::new(Kind::Tool, "the provider still reads the image")
}

/// Gives a file another name, which must not exist.
fn move_to(from: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, path, RenameFlags::NOREPLACE) {
        Err(Errno::XDEV) => copy(from, path),
        // The file system or kernel cannot compare and rename at once.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match fs::symlink_metadata(path) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(from, path),
        },
        renamed => renamed.map_err(io::Error::from),
    }
}

/// Moves a file into another file system. The kernel copies it, without its data passing through this process.
fn copy(from: &Path, path: &Path) -> io::Result<()> {
    let target = AtomicFile::create_at(path, path)?;
    io::copy(&mut File::open(from)?, &mut target.file())?;
    target.commit()?;
    fs::remove_file(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_image_gets_a_name_that_does_not_exist_and_replaces_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let (from, path) = (directory.path().join("from"), directory.path().join("path"));
        let ways: [fn(&Path, &Path) -> io::Result<()>; 2] = [move_to, copy];
        for way in ways {
            fs::write(&from, "new").unwrap();
            fs::write(&path, "older").unwrap();
            assert_eq!(way(&from, &path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read_to_string(&path).unwrap(), "older");
            fs::remove_file(&path).unwrap();
            way(&from, &path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "new");
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
            fs::remove_file(&path).unwrap();
        }
    }
}
