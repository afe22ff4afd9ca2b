//! Creates raw disks: files of the size of the disk in which no data is stored yet.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Kind};

/// The behaviour when the file already exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Fails; the file is not changed.
    Refuse,
    /// Replaces the file with an empty disk.
    Replace,
}

/// Creates a sparse disk of `size` bytes, a positive multiple of 512; it occupies no space yet.
pub fn create(path: &Path, size: u64, existing: Existing) -> Result<(), Error> {
    if size == 0 || !size.is_multiple_of(512) {
        let message = format!("{size} bytes is no disk size (a positive multiple of 512) for");
        return Err(Error::new(Kind::Unsupported, message).at(path));
    }
    if existing == Existing::Replace {
        // An existing file is removed, including a symbolic link, which is not followed.
        match fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("cannot replace", path, source));
            }
            Ok(()) | Err(_) => {}
        }
    }
    let file = File::create_new(path).map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            Error::new(Kind::Io, "there is already a file")
                .at(path)
                .with_hint("remove it or name another one; it was left untouched")
        } else {
            Error::io("cannot create", path, source)
        }
    })?;
    // Not synced: the guest that writes the disk runs with `cache=unsafe`, see `Machine::disk`.
    let sized = file.set_len(size);
    sized.map_err(|source| {
        // An incomplete disk is useless; the first error is the one to report.
        let _ = fs::remove_file(path);
        Error::io(&format!("cannot make a disk of {size} bytes of"), path, source)
    })
}

/// Returns the number of bytes that the file occupies; holes need no space.
pub fn allocated_bytes(path: &Path) -> Result<u64, Error> {
    let metadata =
        fs::metadata(path).map_err(|source| Error::io("cannot look at", path, source))?;
    Ok(metadata.blocks() * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_disk_is_large_and_costs_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d.raw");
        create(&path, 20 << 30, Existing::Refuse).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 20 << 30);
        assert!(allocated_bytes(&path).unwrap() < 1 << 16);
    }

    #[test]
    fn an_existing_file_is_replaced_only_on_request() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d.raw");
        fs::write(&path, b"precious").unwrap();
        let error = create(&path, 1024, Existing::Refuse).unwrap_err();
        assert!(error.hint().is_some());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        create(&path, 1024, Existing::Replace).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [0; 1024]);
    }

    #[test]
    fn impossible_sizes_leave_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d.raw");
        for size in [0, 513, (u64::MAX / 2 / 512) * 512 + 512] {
            assert!(create(&path, size, Existing::Refuse).is_err(), "{size}");
            assert!(!path.exists(), "{size}");
        }
    }
}
