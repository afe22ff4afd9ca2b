//! Finds the setting that lets less be sent of a disk whose given file is compressed.

use build_image_plugin_api::{Archive, Compression, DiskSpec, Setting};
use indicatif::HumanBytes;

use super::Plan;

/// Ending of the names of settings that choose the compression inside a disk.
const SETTING: &str = "_DISK_COMPRESSION";
/// The value of such a setting that compresses.
const ZLIB: &str = "zlib";

/// Returns a sentence about the setting of the provider that compresses the disk, if the image of `image_bytes` bytes is
/// much longer than the given file because it does not.
pub(crate) fn advice(
    plan: &Plan,
    spec: &DiskSpec,
    image_bytes: u64,
    settings: &[Setting],
) -> Option<String> {
    let is_plain = spec.compression == Compression::None && spec.archive == Archive::None;
    let disk = plan.disk.as_ref().filter(|_| plan.upload && is_plain)?;
    let given = match disk.wrapping {
        Some(_) => std::fs::metadata(&disk.path).ok()?.len(),
        None => disk.occupied,
    };
    let compresses = |setting: &&Setting| {
        setting.key.ends_with(SETTING) && setting.choices.iter().any(|choice| choice == ZLIB)
    };
    let setting = settings.iter().find(compresses).filter(|_| grows(given, image_bytes))?;
    let given = HumanBytes(given);
    Some(format!(
        "the given file has {given}; {}={ZLIB} sends less, and takes longer to prepare",
        setting.key
    ))
}

/// Returns whether an image is longer by half, and by enough to matter.
fn grows(given: u64, image: u64) -> bool {
    image > given.saturating_add(given / 2).saturating_add(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::grows;

    #[test]
    fn an_image_that_is_longer_by_half_grows() {
        const MIB: u64 = 1 << 20;
        for (given, image, expected) in [
            (183 * MIB, 493 * MIB, true),
            (480 * MIB, 493 * MIB, false),
            (MIB / 2, MIB, false),
            (0, 2 * MIB, true),
            (u64::MAX, u64::MAX, false),
        ] {
            assert_eq!(grows(given, image), expected, "{given} {image}");
        }
    }
}
