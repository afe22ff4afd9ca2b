//! Shares memory that both sides open as a file, so that bytes of the disk need not be sent as text.

use std::{
    fs::File,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
};

use build_image_plugin_api::{Error, ErrorKind, Result};
use rustix::fs::{MemfdFlags, memfd_create};

/// Size of a buffer, in bytes.
pub(super) const SIZE: u64 = 64 << 20;

/// The host's end.
pub(super) struct Buffer(File);

impl Buffer {
    pub(super) fn new() -> Result<Self> {
        let made = memfd_create("build-image-disk", MemfdFlags::CLOEXEC);
        made.map(|file| Self(file.into())).map_err(|error| {
            Error::new(ErrorKind::Local, "cannot make the memory shared with the provider")
                .caused_by(&std::io::Error::from(error))
        })
    }

    /// The path under which another process of this user opens it.
    pub(super) fn path(&self) -> String {
        path_of(&self.0)
    }

    /// Writes bytes into it, at offset `into`.
    pub(super) fn put(&self, into: u64, bytes: &[u8]) -> Result<()> {
        self.0.write_all_at(bytes, into).map_err(|error| {
            Error::new(ErrorKind::Local, "cannot hand bytes to the provider").caused_by(&error)
        })
    }
}

/// The path under which other processes of this user open a file that is open here, even if it was renamed or
/// removed.
pub(super) fn path_of(file: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}
