//! Decides whether an installed disk can be reused: all its inputs are the same, byte for byte, and so is the disk.

use std::{fs, io, ops::ControlFlow, path::Path};

use build_image_disk::{GuestReader, initrd::Content};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    artifacts::write_whole,
    error::{Error, Result, Stage},
    installers::refused,
    plan::Installation,
    signature::{Algorithm, FileDigest, digests_of_file},
    source::from_disk,
    trust::doubt_of,
};

/// Name of the file in the artifacts directory.
const FILE: &str = "reuse.json";
/// Size of the blocks in which the disk is hashed, in bytes; sectors that are all zero do not count.
const CLUSTER: usize = 64 << 10;

/// The digests of a disk and of its inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallFingerprint {
    /// SHA-256 of all inputs of the disk.
    inputs: String,
    /// SHA-256 of the disk's data and their offsets.
    disk: String,
    /// Size of the disk, in bytes.
    size: u64,
}

impl InstallFingerprint {
    /// Hashes the inputs of a disk of `size` bytes: the ISOs, the additions to their initrds, what the installer
    /// adds, the version of this tool. `check_cancelled` is called repeatedly.
    ///
    /// # Errors
    /// Files that cannot be read, and [`Stage::Interrupted`].
    pub fn inputs(
        installation: &Installation,
        size: u64,
        check_cancelled: &dyn Fn() -> ControlFlow<()>,
    ) -> Result<String> {
        let mut sum = Sum { hash: Sha256::new(), check_cancelled };
        sum.line(&format!("{} {size}", env!("CARGO_PKG_VERSION")));
        for line in &installation.document().fingerprint {
            sum.line(line);
        }
        for pass in installation.prepared.passes(&installation.files).map_err(refused)? {
            let digest = installation.isos().find(|(_, path, _)| *path == pass.cdrom);
            sum.file(&pass.cdrom, digest.and_then(|(.., digest)| digest))?;
            for addition in &pass.additions {
                sum.line(&format!("{} {:o}", addition.path, addition.mode));
                match &addition.content {
                    Content::Bytes(bytes) => sum.bytes(bytes),
                    Content::File(path) => sum.file(path, None)?,
                    Content::Directory => {}
                    Content::Symlink(target) => sum.line(target),
                }
            }
        }
        Ok(sum.finish())
    }

    /// Creates the fingerprint of a disk that was just installed from these inputs.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn of(
        inputs: String,
        disk: &Path,
        check_cancelled: &dyn Fn() -> ControlFlow<()>,
    ) -> Result<Self> {
        let (disk, size) = content(disk, check_cancelled)?;
        Ok(Self { inputs, disk, size })
    }

    /// Returns why others could have changed the disk in this directory, or its fingerprint; `None` also when
    /// neither exists.
    #[must_use]
    pub fn doubt(directory: &Path, disk: &Path) -> Option<String> {
        let record = directory.join(FILE);
        [record.as_path(), disk].into_iter().find_map(|path| match doubt_of(path) {
            Ok(doubt) => doubt.map(|doubt| doubt.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(format!("`{}` cannot be examined: {error}", path.display())),
        })
    }

    /// Returns whether the disk in this directory was made from these inputs and is unchanged.
    ///
    /// # Errors
    /// When the disk exists and cannot be read.
    pub fn is_in(
        directory: &Path,
        disk: &Path,
        inputs: &str,
        check_cancelled: &dyn Fn() -> ControlFlow<()>,
    ) -> Result<bool> {
        let Ok(text) = fs::read(directory.join(FILE)) else { return Ok(false) };
        let Ok(made) = serde_json::from_slice::<Self>(&text) else { return Ok(false) };
        if made.inputs != inputs || disk.metadata().map_or(0, |found| found.len()) != made.size {
            return Ok(false);
        }
        Ok(content(disk, check_cancelled)? == (made.disk, made.size))
    }

    /// Writes the fingerprint.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(FILE);
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        write_whole(&path, text.as_bytes()).map_err(|error| {
            Error::new(Stage::Disk, format!("cannot write `{}`", path.display())).caused_by(&error)
        })
    }
}

/// A hash of several items, each with its length, so that bytes cannot be moved from one item to the next.
struct Sum<'a> {
    hash: Sha256,
    check_cancelled: &'a dyn Fn() -> ControlFlow<()>,
}

impl Sum<'_> {
    fn line(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }

    /// Adds a file by its SHA-256; `cached` is the digest from an earlier read.
    fn file(&mut self, path: &Path, cached: Option<&FileDigest>) -> Result<()> {
        if let Some(sha256) = cached.and_then(|digest| digest.still_of(path)) {
            self.bytes(sha256);
            return Ok(());
        }
        let check_cancelled = self.check_cancelled;
        let digests = digests_of_file(path, &[Algorithm::Sha256], &mut |_| check_cancelled())?;
        self.bytes(digests.get(Algorithm::Sha256).unwrap_or_default());
        Ok(())
    }

    fn finish(self) -> String {
        hex(&self.hash.finalize())
    }
}

/// Returns the digest of a raw disk's data, independent of holes in the file, and its size.
fn content(disk: &Path, check_cancelled: &dyn Fn() -> ControlFlow<()>) -> Result<(String, u64)> {
    let disk_error = |error| from_disk(Stage::Disk, error);
    let disk = GuestReader::open_raw(disk).map_err(disk_error)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 16 * CLUSTER]);
    let mut offset = 0;
    while let Some(extent) = disk.extent_at(offset).map_err(disk_error)? {
        interrupted(check_cancelled())?;
        // Blocks start at multiples of a cluster, so that holes do not change where data are split.
        let rest = buffer.len() as u64 - offset % CLUSTER as u64;
        if extent.zero {
            offset += extent.len;
            continue;
        }
        let length = usize::try_from(rest).unwrap_or(buffer.len());
        let read = disk.read_at(&mut buffer[..length], offset).map_err(disk_error)?;
        for (position, byte) in nonzero(&buffer[..read]) {
            hash.update((offset + position as u64).to_le_bytes());
            hash.update(byte);
        }
        offset += read as u64;
    }
    Ok((hex(&hash.finalize()), disk.virtual_size()))
}

/// Returns the sectors that hold data, with their offsets.
fn nonzero(data: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    data.chunks(512)
        .enumerate()
        .filter(|(_, sector)| sector.iter().any(|byte| *byte != 0))
        .map(|(number, sector)| (number * 512, sector))
}

fn interrupted(flow: ControlFlow<()>) -> Result<()> {
    if flow.is_break() { Err(Error::interrupted()) } else { Ok(()) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Seek as _, SeekFrom, Write as _},
    };

    use super::*;

    fn go() -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    #[test]
    fn a_disk_is_the_same_with_and_without_holes_and_another_after_any_change() {
        let directory = tempfile::tempdir().unwrap();
        let (holes, full) = (directory.path().join("holes"), directory.path().join("full"));
        let mut file = File::create(&holes).unwrap();
        file.set_len(3 << 20).unwrap();
        for (place, byte) in [(5, 1_u8), (1 << 20, 2), ((3 << 20) - 1, 3)] {
            file.seek(SeekFrom::Start(place)).unwrap();
            file.write_all(&[byte]).unwrap();
        }
        fs::write(&full, fs::read(&holes).unwrap()).unwrap();
        let first = content(&holes, &go).unwrap();
        assert_eq!(first, content(&full, &go).unwrap());
        let made = InstallFingerprint::of("in".into(), &holes, &go).unwrap();
        made.write(directory.path()).unwrap();
        assert!(InstallFingerprint::is_in(directory.path(), &full, "in", &go).unwrap());
        assert!(!InstallFingerprint::is_in(directory.path(), &full, "other", &go).unwrap());
        let mut bytes = fs::read(&full).unwrap();
        bytes[2 << 20] = 9;
        fs::write(&full, bytes).unwrap();
        assert!(!InstallFingerprint::is_in(directory.path(), &full, "in", &go).unwrap());
        assert!(
            !InstallFingerprint::is_in(directory.path(), &directory.path().join("gone"), "in", &go)
                .unwrap()
        );
    }

    #[test]
    fn a_file_whose_digest_is_known_is_not_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("iso");
        fs::write(&path, "first").unwrap();
        let other = directory.path().join("other");
        fs::write(&other, "other").unwrap();
        let before = path.metadata().unwrap();
        let digests = digests_of_file(&path, &[Algorithm::Sha256], &mut |_| go()).unwrap();
        let cached = FileDigest::of(&digests, &before);
        let sum = |cached: Option<&FileDigest>| {
            let mut sum = Sum { hash: Sha256::new(), check_cancelled: &go };
            sum.file(&path, cached).unwrap();
            sum.finish()
        };
        let read = sum(None);
        assert_eq!(sum(cached.as_ref()), read);
        // The digest is known, so the file is not read: reading would not give this digest.
        let wrong = FileDigest::of(
            &digests_of_file(&other, &[Algorithm::Sha256], &mut |_| go()).unwrap(),
            &before,
        );
        assert_ne!(sum(wrong.as_ref()), read);
        // Other bytes in another file with the same modification time: it is read again.
        fs::rename(&other, &path).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
        assert_eq!(sum(cached.as_ref()), sum(None));
        assert_ne!(sum(cached.as_ref()), read);
    }

    #[test]
    fn a_stop_is_an_interruption() {
        let directory = tempfile::tempdir().unwrap();
        let disk = directory.path().join("disk");
        fs::write(&disk, [1; 4096]).unwrap();
        let error = content(&disk, &|| ControlFlow::Break(())).unwrap_err();
        assert_eq!(error.stage, Stage::Interrupted);
    }
}
