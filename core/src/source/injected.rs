//! Downloads injected files.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use indicatif::HumanBytes;

use super::download::{DownloadOptions, Downloader};
use crate::{
    error::{Error, Result},
    interrupt::Interrupt,
    product::Injected,
    report::Reporter,
};

/// Mode of a downloaded file, unless its entry declares one.
const MODE: u32 = 0o644;

/// Downloads the entries that have a URL into a directory; afterwards all entries are files.
///
/// # Errors
/// Files that could not be downloaded.
pub(crate) fn fetch(
    files: &mut [Injected],
    directory: &Path,
    options: DownloadOptions,
    reporter: &Reporter,
    interrupt: &Interrupt,
) -> Result<()> {
    if files.iter().all(|file| file.url.is_none()) {
        return Ok(());
    }
    let downloader = Downloader::new(options.for_injected(), reporter, interrupt)?;
    for (number, file) in files.iter_mut().enumerate() {
        let Some(url) = &file.url else { continue };
        let path = directory.join(format!("injected{number}"));
        let length = downloader.fetch_into(url, &path).map_err(|error| Error {
            message: format!("UPDATE_IMAGE_FILES, entry {}: {}", number + 1, error.message),
            ..error
        })?;
        fs::set_permissions(&path, fs::Permissions::from_mode(MODE))
            .map_err(|error| crate::artifacts::cannot("set the mode of", &path, &error))?;
        reporter.milestone(&format!("{} received for {}", HumanBytes(length), file.destination));
        file.source = path;
    }
    Ok(())
}
