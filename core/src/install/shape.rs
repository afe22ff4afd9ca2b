//! Identifies what an installation makes, without reading its ISOs: targets with the same shape share one disk.

use build_image_disk::{FileStamp, initrd::Content};
use sha2::{Digest as _, Sha256};

use crate::{error::Result, installers::refused, plan::Installation};

/// Returns a text that is equal for installations that make the same disk of `size` bytes. `target` distinguishes
/// installations whose guests are not known before files are downloaded for them.
///
/// # Errors
/// A file or an ISO that cannot be read.
pub(crate) fn shape(installation: &Installation, size: u64, target: &str) -> Result<String> {
    let mut lines = vec![size.to_string()];
    let stamp = |path: &std::path::Path| {
        let stamp = FileStamp::at(path).map(|stamp| stamp.text()).unwrap_or_default();
        format!("{} {stamp}", path.display())
    };
    lines.extend(installation.document().fingerprint.iter().cloned());
    lines.extend(installation.isos().map(|(name, path, _)| format!("{name} {}", stamp(path))));
    let files = &installation.files;
    for file in files {
        let url = file.url.as_deref().unwrap_or_default();
        lines.push(format!("{} {} {url} {}", file.key, file.target, stamp(&file.source)));
    }
    if files.iter().any(|file| file.url.is_some()) {
        lines.push(target.to_owned());
        return Ok(digest(&lines));
    }
    for pass in installation.prepared.passes(files).map_err(refused)? {
        lines.push(format!("{} {} {}", pass.name, pass.cdrom.display(), pass.arguments));
        for addition in &pass.additions {
            lines.push(format!("{} {:o}", addition.path, addition.mode));
            lines.push(match &addition.content {
                Content::Bytes(bytes) => hex(&Sha256::digest(bytes)),
                Content::File(path) => stamp(path),
                Content::Directory => "directory".to_owned(),
                Content::Symlink(target) => format!("link {target}"),
            });
        }
    }
    Ok(digest(&lines))
}

fn digest(lines: &[String]) -> String {
    let mut hash = Sha256::new();
    for line in lines {
        hash.update((line.len() as u64).to_le_bytes());
        hash.update(line);
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
