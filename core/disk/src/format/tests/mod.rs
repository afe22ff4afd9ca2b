//! Formats against images made by qemu-img, and against images broken on purpose.

mod broken;
mod whole;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::testing::{noise, run};

/// A raw disk of `size` bytes with noise at the given (offset, length) places.
pub(super) fn raw_disk(path: &Path, size: u64, data: &[(u64, usize)]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for (offset, len) in data {
        file.write_all_at(&noise(*offset + 1, *len), *offset).unwrap();
    }
}

/// Converts a raw disk with qemu-img.
pub(super) fn convert(qemu_img: &Path, raw: &Path, format: &str, extra: &[&str]) -> PathBuf {
    let name = format!("{}-{format}{}", raw.display(), extra.join(""));
    let out = PathBuf::from(name.replace([',', '='], "_"));
    let mut args: Vec<&dyn AsRef<std::ffi::OsStr>> =
        vec![&"convert", &"-f", &"raw", &"-O", &format];
    args.extend(extra.iter().map(|arg| arg as &dyn AsRef<std::ffi::OsStr>));
    args.extend([&raw as &dyn AsRef<std::ffi::OsStr>, &out]);
    run(qemu_img, &args);
    out
}
