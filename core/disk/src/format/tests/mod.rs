//! Tests the formats with images made by qemu-img, and with images that are corrupted on purpose.

mod broken;
mod broken_vhdx;
mod broken_vmdk;
mod whole;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{GuestReader, probe};
use crate::Kind;
use crate::testing::{noise, run};

/// Creates a raw disk of `size` bytes with noise at the given (offset, length) ranges.
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

/// Returns the kind of error with which an image of these bytes is refused, if it is.
pub(super) fn kind_of(path: &Path, image: &[u8]) -> Option<Kind> {
    fs::write(path, image).unwrap();
    probe(path).err().map(|error| error.kind())
}

/// Returns a copy of an image with bytes replaced at the given offsets.
pub(super) fn patched(image: &[u8], patches: &[(usize, &[u8])]) -> Vec<u8> {
    let mut image = image.to_vec();
    for (at, bytes) in patches {
        image[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    image
}

/// Changes every byte at the given offsets in several ways and reads every image that is still accepted.
pub(super) fn survive(directory: &Path, whole: &[u8], places: impl Iterator<Item = usize>) {
    let (path, out) = (directory.join("mutant"), directory.join("out"));
    fs::write(&path, whole).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for at in places {
        for (len, value) in
            [(1, None), (1, Some(0xff)), (8, Some(0xff)), (4, Some(0x7f)), (8, Some(0))]
        {
            let old = &whole[at..(at + len).min(whole.len())];
            let new: Vec<u8> = old.iter().map(|byte| value.unwrap_or(*byte ^ 0x40)).collect();
            file.write_all_at(&new, at as u64).unwrap();
            // Any result is valid except a panic, an endless loop, or a huge allocation.
            match GuestReader::open(&path) {
                Err(_) => refused += 1,
                Ok(reader) => {
                    accepted += 1;
                    let mut buf = vec![0; 70_000];
                    let _ = reader.read_at(&mut buf, 0);
                    let _ = reader.read_at(&mut buf, reader.virtual_size() / 2);
                    let _ = reader.extent_at(reader.virtual_size().saturating_sub(1));
                    if reader.virtual_size() < 64 << 20 {
                        let _ = super::export_raw(&reader, &out);
                    }
                }
            }
            file.write_all_at(old, at as u64).unwrap();
        }
    }
    assert!(accepted > 0 && refused > 0, "{accepted} accepted, {refused} refused");
}
