//! Opens what the image is made from: an installer ISO or a disk image, local or downloaded.
//!
//! ```text
//! address.rs  a file or a URL            open.rs    opens the source, facts
//! download/   resumable downloads        verify.rs  signatures and checksums
//! injected.rs injected files             disk.rs    disk images, also packed ones
//! peek.rs     facts that are known before the download
//! pipe.rs     a disk from standard input
//! ```

mod address;
mod disk;
mod download;
mod injected;
mod open;
mod peek;
mod pipe;
mod sums;
mod verify;

use std::{cell::OnceCell, path::Path, sync::Arc};

use build_image_disk::Error as DiskError;

use crate::{
    error::{Error, Result, Stage},
    installers,
    interrupt::Interrupt,
    journal::Key,
    report::Reporter,
    settings::{Resolved, STDIN},
};

pub(crate) use address::{Address, display_url, redact_text, redacted, without_passwords};
pub(crate) use disk::GivenDisk;
pub(crate) use download::{
    Answered, DownloadOptions, Downloader, FOLDER as DOWNLOADS, Post, Reply, Slot,
    clean as clean_downloads,
};
pub(crate) use injected::fetch as fetch_injected;
pub(crate) use open::open;
pub(crate) use peek::{Remote, peek};

/// The settings and services that are needed to open a source.
pub(crate) struct SourceContext<'a> {
    settings: &'a Resolved,
    reporter: &'a Reporter,
    interrupt: &'a Interrupt,
    /// Signs the descriptions of downloads.
    key: Option<Arc<Key>>,
    /// Initialised by the first download.
    downloader: OnceCell<Downloader<'a>>,
}

impl<'a> SourceContext<'a> {
    pub(crate) fn new(
        settings: &'a Resolved,
        reporter: &'a Reporter,
        interrupt: &'a Interrupt,
    ) -> Self {
        Self { settings, reporter, interrupt, key: None, downloader: OnceCell::new() }
    }

    /// Uses downloads of earlier builds that this key has signed. Without a key, everything is downloaded again.
    pub(crate) fn with_key(self, key: Arc<Key>) -> Self {
        Self { key: Some(key), ..self }
    }

    fn downloader(&self) -> Result<&Downloader<'a>> {
        if let Some(downloader) = self.downloader.get() {
            return Ok(downloader);
        }
        let options = DownloadOptions::of(self.settings);
        let made =
            Downloader::new(options, self.reporter, self.interrupt)?.with_key(self.key.clone());
        Ok(self.downloader.get_or_init(|| made))
    }
}

/// The source that the settings name, for messages.
pub(crate) fn shown_source(settings: &Resolved) -> String {
    let source = &settings.core().source;
    match source.iso.as_deref().or(source.disk.as_deref()) {
        Some(STDIN) => "standard input".to_owned(),
        text => redacted(text.unwrap_or_default()),
    }
}

/// Converts the error of a source file that was refused.
pub(crate) fn not_accepted(path: &Path, error: DiskError) -> Error {
    let mut made = from_disk(Stage::Source, error);
    let display = path.display().to_string();
    if !made.message.contains(&display) {
        made.message = format!("`{display}`: {}", made.message);
    }
    if let Some(near) = neighbour(path) {
        made.hint = Some(format!("did you mean `{near}`?"));
    }
    if made.hint.is_none() {
        made.hint = Some(if path.exists() {
            installers::source_hint()
        } else {
            "correct the path, or give the address of a download".to_owned()
        });
    }
    made
}

/// Returns the error of a source file that does not exist; `None` when it does.
pub(crate) fn missing(path: &Path) -> Option<Error> {
    let error = std::fs::metadata(path).err()?;
    Some(not_accepted(path, DiskError::io("cannot open", path, error)))
}

/// Returns the file beside a missing one with the most similar name.
fn neighbour(missing: &Path) -> Option<String> {
    let missing_name = missing.file_name()?.to_str()?;
    if missing.exists() {
        return None;
    }
    let directory = missing.parent()?.read_dir().ok()?;
    let names = directory.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let similarity = |name: &String| strsim::jaro_winkler(name, missing_name);
    let alike = names.filter(|name| strsim::damerau_levenshtein(name, missing_name) <= 3);
    alike
        .filter(|name| similarity(name) > 0.8)
        .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))
}

/// Converts an error of the disk library, at a stage.
#[expect(clippy::needless_pass_by_value, reason = "an error is converted into another one")]
pub(crate) fn from_disk(stage: Stage, error: DiskError) -> Error {
    use build_image_disk::Kind;
    let stage = if error.kind() == Kind::Cancelled { Stage::Interrupted } else { stage };
    let mut made = Error::new(stage, error.to_string());
    if let Some(source) = std::error::Error::source(&error) {
        made = made.caused_by(source);
    }
    if let Some(hint) = error.hint() {
        made = made.hint(hint);
    }
    made.context = error.details().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    made
}
