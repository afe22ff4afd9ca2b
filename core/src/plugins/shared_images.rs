//! Shares images that have to be written between the targets of a build: targets that take the same image read one
//! file while it is written once.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use build_image_disk::pack::Growing;
use build_image_plugin_api::{DiskSpec, Error, ErrorKind, Result};

use super::disks::{BaseDisk, ImageOutput};

/// The images that are being written, or are in use.
pub struct SharedImages {
    directory: PathBuf,
    images: Mutex<BTreeMap<String, Weak<Growing>>>,
}

impl SharedImages {
    /// Creates a store whose files are written into a directory, which is created when the first one is.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), images: Mutex::default() }
    }

    /// Returns the image of a disk in a format; makes it unless it is in use. `identity` identifies the content of the
    /// disk and the format.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn get(
        &self,
        origin: &BaseDisk,
        spec: &DiskSpec,
        identity: &str,
        make: impl FnOnce(&Path) -> Result<ImageOutput>,
    ) -> Result<ImageOutput> {
        let key = format!("{identity} {} {}", origin.disk_name, origin.date);
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = images.get(&key).and_then(Weak::upgrade) {
            return Ok(ImageOutput::File(image));
        }
        fs::create_dir_all(&self.directory).map_err(|error| {
            let text = format!("cannot create the directory `{}`", self.directory.display());
            Error::new(ErrorKind::Local, text).caused_by(&error)
        })?;
        let name = format!("image-{}.{}", images.len(), spec.file_suffix());
        let made = make(&self.directory.join(name))?;
        if let ImageOutput::File(file) = &made {
            images.insert(key, Arc::downgrade(file));
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use build_image_disk::pack::Control;
    use build_image_plugin_api::{Compression, DiskFormat};

    use super::*;

    #[test]
    fn an_image_is_written_once_while_a_target_uses_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.raw");
        fs::write(&path, vec![7; 1 << 20]).unwrap();
        let origin = BaseDisk { path, is_raw: true, virtual_size: 1 << 20, ..BaseDisk::default() };
        let spec = DiskSpec::new(DiskFormat::Qcow2).compression(Compression::Zlib);
        let images = SharedImages::in_directory(&directory.path().join("images"));
        let made = std::cell::Cell::new(0);
        let get = |identity: &str| {
            let image = images.get(&origin, &spec, identity, |dest| {
                made.set(made.get() + 1);
                origin.form(&spec, dest, &Control::new())
            });
            match image.unwrap() {
                ImageOutput::File(file) => file,
                ImageOutput::View(_) => panic!("it has to be written"),
            }
        };
        let (one, same, other) = (get("a"), get("a"), get("b"));
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        assert_eq!(made.get(), 2);
        drop((one, same));
        drop(get("a"));
        assert_eq!(made.get(), 3);
        drop(other);
        let left = fs::read_dir(directory.path().join("images")).unwrap().count();
        assert_eq!(left, 0, "files of images that are not used stay");
    }
}
