//! Downloads the files that an installation reads.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use build_image_disk::installer::InputFile;
use indicatif::HumanBytes;
use reqwest::Url;

use super::download::{DownloadOptions, Downloader};
use crate::{
    error::{Error, Result, Stage},
    interrupt::Interrupt,
    report::Reporter,
};

/// Mode of a downloaded file, unless its entry declares one.
const MODE: u32 = 0o644;

/// Downloads the entries that have a URL into a directory; afterwards all entries are files.
///
/// # Errors
/// Files that could not be downloaded.
pub(crate) fn fetch(
    files: &mut [InputFile],
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
        let url = Url::parse(url).map_err(|error| {
            Error::new(Stage::Bug, format!("{}: the URL was accepted before", file.place))
                .caused_by(&error)
        })?;
        let length = downloader.fetch_into(&url, &path).map_err(|error| Error {
            message: format!("{}: {}", file.place, error.message),
            ..error
        })?;
        fs::set_permissions(&path, fs::Permissions::from_mode(MODE))
            .map_err(|error| crate::artifacts::cannot("set the mode of", &path, &error))?;
        reporter.milestone(&format!("{} received for {}", HumanBytes(length), file.target));
        file.source = path;
    }
    Ok(())
}
