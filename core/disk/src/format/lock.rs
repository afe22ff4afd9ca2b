//! Participates in the image locks of qemu, so that no guest writes to a disk while it is read.
//!
//! A process that opens an image according to qemu's rules holds shared locks on single bytes: byte 100 + n
//! means "this process uses permission n", byte 200 + n means "no other process may use permission n". A
//! process that opens an image takes its own locks first and then checks for conflicting locks of other
//! processes. Source: QEMU, block/file-posix.c (RAW_LOCK_PERM_BASE, raw_handle_perm_lock) and
//! include/block/block-common.h (BLK_PERM_*).

use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::Image;
use crate::error::{Error, Kind};

/// First of the bytes for the permissions that the holder uses.
const DOES: libc::off_t = 100;
/// First of the bytes for the permissions that the holder denies to other processes.
const FORBIDS: libc::off_t = 200;
/// BLK_PERM_CONSISTENT_READ: reads, and relies on consistent content.
const READ: libc::off_t = 0;
/// BLK_PERM_WRITE: changes the content that a guest sees.
const WRITE: libc::off_t = 1;
/// BLK_PERM_RESIZE: changes the length of the file.
const RESIZE: libc::off_t = 3;

/// The locks that are held here: the file is read, and no other process may write to it.
const HELD: [libc::off_t; 3] = [DOES + READ, FORBIDS + WRITE, FORBIDS + RESIZE];
/// The locks that other processes must not hold, and what each of them means.
const OPPOSED: [(libc::off_t, &str); 3] = [
    (DOES + WRITE, "qemu has it open for writing"),
    (DOES + RESIZE, "qemu has it open for writing"),
    (FORBIDS + READ, "qemu has it open and lets nobody else read it"),
];

/// An open file of a disk. It is locked against writers until it and every reader created from it are
/// dropped: no guest is running on it, and none can be started.
#[derive(Debug)]
pub struct LockedFile(pub(super) Image);

impl LockedFile {
    /// Opens and locks a file without reading it.
    ///
    /// A file system without such locks is not an error; writers are not excluded then.
    ///
    /// # Errors
    /// [`Kind::Busy`] when another process has the file open for writing according to qemu's rules; otherwise
    /// the errors of [`super::GuestReader::open`] for files that cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Image::open_locked(path).map(Self)
    }

    pub(crate) fn of(image: Image) -> Self {
        Self(image)
    }

    /// Narrows the image to a member of an archive: `len` bytes from offset `base` of the file.
    ///
    /// # Errors
    /// [`Kind::Truncated`] when the file ends before.
    pub fn narrowed(self, base: u64, len: u64) -> Result<Self, Error> {
        self.0.narrowed(base, len).map(Self)
    }

    /// Checks that the file was neither written nor replaced since it was opened.
    ///
    /// # Errors
    /// [`Kind::Changed`], with the kind of change.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        self.0.check_unchanged()
    }
}

impl Image {
    /// Locks the file against writers until it is closed; see [`LockedFile`].
    pub(super) fn lock(&self) -> Result<(), Error> {
        for byte in HELD {
            let lock = request(libc::F_RDLCK, byte, 1);
            match fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock)) {
                Ok(_) => {}
                Err(Errno::EAGAIN | Errno::EACCES) => return Err(self.busy(FOREIGN)),
                Err(errno) => return self.unlocked(errno),
            }
        }
        for (byte, what) in OPPOSED {
            if self.is_held(libc::F_WRLCK, byte, 1)? {
                return Err(self.busy(what));
            }
        }
        // Programs with other rules, such as libvirt's virtlockd, lock the files that they write exclusively.
        if self.is_held(libc::F_RDLCK, 0, 0)? {
            return Err(self.busy(FOREIGN));
        }
        Ok(())
    }

    /// Releases the locks now. If the file were only closed, child processes that were started meanwhile
    /// would keep the locks until they close their copy of the descriptor.
    pub(super) fn unlock(&self) {
        if let Err(errno) = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&request(libc::F_UNLCK, 0, 0)))
        {
            tracing::debug!(path = %self.path.display(), %errno, "cannot unlock");
        }
    }

    /// Returns whether a lock of another holder conflicts with this one; `len` 0 means to the end of the
    /// file.
    fn is_held(
        &self,
        kind: libc::c_int,
        start: libc::off_t,
        len: libc::off_t,
    ) -> Result<bool, Error> {
        let mut lock = request(kind, start, len);
        match fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut lock)) {
            Ok(_) => Ok(libc::c_int::from(lock.l_type) != libc::F_UNLCK),
            Err(errno) => self.unlocked(errno).map(|()| false),
        }
    }

    fn unlocked(&self, errno: Errno) -> Result<(), Error> {
        tracing::debug!(path = %self.path.display(), %errno, "not locked against writers");
        Ok(())
    }

    fn busy(&self, what: &str) -> Error {
        let message = format!("`{}` is in use by another process ({what})", self.path.display());
        Error::new(Kind::Busy, message).with_hint(
            "shut its machine down, or build from a copy of a snapshot of the disk (`qemu-img convert -U` \
             copies a disk in use, but what it copies may be inconsistent)",
        )
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.locked {
            self.unlock();
        }
    }
}

const FOREIGN: &str = "it is locked for writing";

/// Builds a lock for fcntl(2); open file description locks require a process id of 0.
fn request(kind: libc::c_int, start: libc::off_t, len: libc::off_t) -> libc::flock {
    let short = |value: libc::c_int| libc::c_short::try_from(value).unwrap_or_default();
    libc::flock {
        l_type: short(kind),
        l_whence: short(libc::SEEK_SET),
        l_start: start,
        l_len: len,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::PathBuf;

    use super::*;
    use crate::format::GuestReader;

    /// A holder of locks with a separate open file description, like another process.
    struct Holder(File);

    impl Drop for Holder {
        fn drop(&mut self) {
            // A child process that another test is just starting has a copy of the descriptor, so closing is
            // not sufficient.
            fcntl(&self.0, FcntlArg::F_OFD_SETLK(&request(libc::F_UNLCK, 0, 0))).unwrap();
        }
    }

    fn holder(path: &Path, kind: libc::c_int, start: libc::off_t) -> Holder {
        let file = File::options().read(true).write(true).open(path).unwrap();
        fcntl(&file, FcntlArg::F_OFD_SETLK(&request(kind, start, 1))).unwrap();
        Holder(file)
    }

    #[test]
    fn a_copy_of_the_descriptor_elsewhere_does_not_keep_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = disk(directory.path());
        let reader = Image::open_locked(&path).unwrap();
        // The state of a child process between fork and exec.
        let copy = reader.file.try_clone().unwrap();
        let other = File::options().read(true).write(true).open(&path).unwrap();
        let writes =
            || fcntl(&other, FcntlArg::F_OFD_SETLK(&request(libc::F_WRLCK, FORBIDS + WRITE, 1)));
        assert_eq!(writes(), Err(Errno::EAGAIN));
        drop(reader);
        writes().unwrap();
        drop(copy);
    }

    fn locked(path: &Path) -> Result<GuestReader, Error> {
        GuestReader::open_file(LockedFile::open(path)?, None)
    }

    fn disk(directory: &Path) -> PathBuf {
        let path = directory.join("disk.raw");
        std::fs::write(&path, [0; 4096]).unwrap();
        path
    }

    #[test]
    fn a_disk_whose_holder_writes_is_refused_and_one_whose_holder_reads_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = disk(directory.path());
        for (kind, byte, text) in [
            (libc::F_RDLCK, DOES + WRITE, Some("open for writing")),
            (libc::F_RDLCK, DOES + RESIZE, Some("open for writing")),
            (libc::F_RDLCK, FORBIDS + READ, Some("lets nobody else read it")),
            (libc::F_WRLCK, 0, Some("locked for writing")),
            (libc::F_WRLCK, FORBIDS + WRITE, Some("locked for writing")),
            (libc::F_RDLCK, DOES + READ, None),
            (libc::F_RDLCK, FORBIDS + WRITE, None),
            (libc::F_RDLCK, FORBIDS + RESIZE, None),
            (libc::F_RDLCK, 0, None),
        ] {
            let held = holder(&path, kind, byte);
            let opened = locked(&path);
            match text {
                None => drop(opened.unwrap()),
                Some(text) => {
                    let error = opened.unwrap_err();
                    assert_eq!(error.kind(), Kind::Busy);
                    assert!(error.to_string().contains("disk.raw` is in use"), "{error}");
                    assert!(error.to_string().contains(text), "{byte}: {error}");
                    assert!(error.hint().is_some());
                }
            }
            drop(held);
            drop(locked(&path).unwrap());
        }
    }

    #[test]
    fn a_reader_keeps_writers_out_until_it_is_dropped_and_lets_readers_in() {
        let directory = tempfile::tempdir().unwrap();
        let path = disk(directory.path());
        let reader = locked(&path).unwrap();
        let clone = reader.clone();
        drop(reader);
        let other = File::options().read(true).write(true).open(&path).unwrap();
        // The check of a qemu that opens the image for writing.
        let taken = |byte| {
            let mut lock = request(libc::F_WRLCK, byte, 1);
            fcntl(&other, FcntlArg::F_OFD_GETLK(&mut lock)).unwrap();
            libc::c_int::from(lock.l_type) != libc::F_UNLCK
        };
        assert!(taken(FORBIDS + WRITE) && taken(FORBIDS + RESIZE));
        assert!(!taken(FORBIDS + READ), "others may read");
        drop(locked(&path).unwrap());
        drop(clone);
        assert!(!taken(FORBIDS + WRITE) && !taken(FORBIDS + RESIZE));
    }

    #[test]
    fn every_file_of_a_disk_in_several_files_is_locked() {
        let directory = tempfile::tempdir().unwrap();
        let flat = directory.path().join("part-flat.vmdk");
        std::fs::write(&flat, [0; 4096]).unwrap();
        let descriptor = directory.path().join("disk.vmdk");
        let text = "# Disk DescriptorFile\ncreateType=\"monolithicFlat\"\nRW 8 FLAT \"part-flat.vmdk\" 0\n";
        std::fs::write(&descriptor, text).unwrap();
        let held = holder(&flat, libc::F_RDLCK, DOES + WRITE);
        let error = locked(&descriptor).unwrap_err();
        assert!(error.to_string().contains("part-flat.vmdk` is in use"), "{error}");
        drop(held);
        let reader = locked(&descriptor).unwrap();
        let names: Vec<_> =
            reader.sources().map(|(path, _)| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["disk.vmdk", "part-flat.vmdk"]);
        let other = File::options().read(true).write(true).open(&flat).unwrap();
        let mut lock = request(libc::F_WRLCK, FORBIDS + WRITE, 1);
        fcntl(&other, FcntlArg::F_OFD_GETLK(&mut lock)).unwrap();
        assert_ne!(libc::c_int::from(lock.l_type), libc::F_UNLCK);
    }
}
