//! Downloads files. Downloads can be resumed, and are kept below ARTIFACTS_DIR for the next run until a build
//! has succeeded.
//!
//! ```text
//! client.rs    HTTP client: redirects, retryable failures           store.rs  slots for files, locks
//! peek.rs      the start of a file                               retry.rs  attempts of small requests
//! transfer.rs  one file: attempts, parts, digests while receiving   post.rs   form posts to a server
//! whole.rs     documents and files with a longest length, with the caller's headers
//! ```

mod client;
mod peek;
mod post;
mod retry;
mod store;
mod transfer;
mod whole;

use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom},
    ops::ControlFlow,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use indicatif::HumanBytes;
use reqwest::{
    StatusCode, Url,
    header::{IF_MODIFIED_SINCE, IF_NONE_MATCH},
};
use tokio::runtime::Runtime;

pub(crate) use post::{Answered, Post};
pub(crate) use store::{Slot, clean};
pub(crate) use whole::Reply;

use super::address::display_url;
use crate::{
    artifacts::cannot,
    error::{Error, Result, Stage},
    interrupt::Interrupt,
    journal::Key,
    report::Reporter,
    settings::{self, Resolved, keys},
    signature::{Algorithm, Digests, digests_of},
    trust::{doubt_of_file, open_regular},
};
use client::{Failure, HttpClient};
use retry::retry;
use store::{About, cannot_write};
use transfer::Transfer;

/// Directory of downloads, below the directory of all builds' files.
pub(crate) const FOLDER: &str = "downloads";
/// Stall limit for the download of an injected file.
const INJECTED_STALL: Duration = Duration::from_secs(60);

/// Options of downloads, from the settings.
#[derive(Clone, Copy, Debug)]
pub struct DownloadOptions {
    any_certificate: bool,
    retries: u64,
    stall: Duration,
}

impl DownloadOptions {
    /// Reads the options from the settings.
    pub(crate) fn of(settings: &Resolved) -> Self {
        let settings::Download { any_certificate, retries, stall } = settings.core().download;
        Self { any_certificate, retries, stall: stall.max(Duration::from_secs(1)) }
    }

    /// Options for injected files.
    pub(crate) fn for_injected(self) -> Self {
        Self { stall: INJECTED_STALL.min(self.stall), ..self }
    }
}

/// Downloads files for one command.
pub(crate) struct Downloader<'a> {
    options: DownloadOptions,
    reporter: &'a Reporter,
    interrupt: &'a Interrupt,
    client: HttpClient,
    /// Signs the descriptions of downloads.
    key: Option<Arc<Key>>,
    /// Absent only while the downloader is dropped.
    runtime: Option<Runtime>,
}

/// A downloaded file.
pub(crate) struct Download {
    /// Its current path.
    pub(crate) path: PathBuf,
    /// Its digests, if the whole file was received just now.
    pub(crate) digests: Option<Digests>,
    /// The slot in which it is kept.
    pub(crate) slot: Slot,
}

/// The DNS lookup of a connection cannot be stopped; it is not waited for.
impl Drop for Downloader<'_> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl<'a> Downloader<'a> {
    pub(crate) fn new(
        options: DownloadOptions,
        reporter: &'a Reporter,
        interrupt: &'a Interrupt,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            Error::new(Stage::Bug, "cannot start what downloads run on").caused_by(&error)
        })?;
        if options.any_certificate {
            reporter.warning(
                &format!(
                    "{} is on: the identity of download servers is not verified",
                    keys::IGNORE_DOWNLOAD_URL_TLS
                ),
                Some("leave it out; SSL_CERT_FILE names the certificate of an own authority"),
            );
        }
        let client = HttpClient::open(options.any_certificate, options.stall)?;
        Ok(Self { options, reporter, interrupt, client, key: None, runtime: Some(runtime) })
    }

    /// Trusts descriptions that this key has signed. Without a key, everything is downloaded again.
    pub(super) fn with_key(mut self, key: Option<Arc<Key>>) -> Self {
        self.key = key;
        self
    }

    /// Warns about credentials in an address without TLS: they can be read on the network.
    fn warn(&self, url: &Url) {
        if sends_password_in_clear(url) {
            let what =
                format!("`{}`: user and password are sent without encryption", display_url(url));
            self.reporter.warning(&what, Some("give an https address"));
        }
    }

    /// Downloads a file into its slot below `store`, or finds that it is there already.
    pub(crate) fn fetch(
        &self,
        url: &Url,
        store: &Path,
        algorithms: &[Algorithm],
    ) -> Result<Download> {
        let reported = std::cell::Cell::new(false);
        let on_wait = || {
            if !reported.replace(true) {
                self.reporter.milestone("waiting for another build that downloads the same");
            }
        };
        let take =
            |alone| Slot::take(store, url, alone, self.interrupt, &on_wait, self.key.as_ref());
        let mut slot = take(false)?;
        self.warn(url);
        self.reporter.begin("download", &format!("fetching {}", display_url(url)));
        if let Some(why) = slot.about.distrusted.take() {
            self.reporter.milestone(&format!("what was fetched before is not trusted: {why}"));
        }
        if let Some(path) = slot.whole() {
            if self.is_current(url, &slot.about)? {
                if let Some(digests) = self.verified(&slot, &path, algorithms)? {
                    self.reporter.end("it was fetched before and has not changed");
                    slot.share()?;
                    return Ok(Download { path, digests: Some(digests), slot });
                }
                let text = "what was fetched before was changed here; fetching it again";
                self.reporter.milestone(text);
            }
            if !slot.alone() {
                drop(slot);
                slot = take(true)?;
            }
            slot.reset(url)?;
        } else if !slot.alone() {
            drop(slot);
            slot = take(true)?;
        }
        self.fill(url, slot, algorithms)
    }

    fn fill(&self, url: &Url, mut slot: Slot, algorithms: &[Algorithm]) -> Result<Download> {
        let path = slot.partial();
        let about = slot.about.clone();
        let algorithms = &with_sha256(algorithms);
        let have = path.metadata().map_or(0, |metadata| metadata.len()).min(about.synced);
        let opened = store::open(&path).and_then(|mut file| {
            file.set_len(have)?;
            file.seek(SeekFrom::Start(have))?;
            Ok(file)
        });
        let file = opened.map_err(|error| cannot_write(&path, &error))?;
        let mut keep = |about: &About| {
            let before = std::mem::replace(&mut slot.about, about.clone());
            slot.keep().inspect_err(|_| slot.about = before)
        };
        let mut transfer = self.transfer(url, &path, file, algorithms);
        (transfer.have, transfer.about) = (have, about);
        transfer.keep = Some(&mut keep);
        let fetched = self.drive(&mut transfer);
        let (received, nothing) = (transfer.received, transfer.have == 0);
        drop(transfer);
        let digests = match fetched {
            Ok(digests) => digests,
            Err(failure) => {
                // Bytes that could not be recorded, on a full disk, cannot be used by the next run.
                let useful = slot.about.synced;
                let endless = failure.error.stage == Stage::Disk && slot.about.length.is_none();
                if nothing || useful == 0 || endless {
                    slot.remove();
                } else if let Ok(file) = store::open(&path) {
                    let _ = file.set_len(useful);
                }
                return Err(failure.error);
            }
        };
        let digests = match digests {
            Some(digests) => digests,
            // Only a part of the file was received now.
            None => {
                let mut file =
                    open_regular(&path).map_err(|error| cannot("read", &path, &error))?;
                self.digests(&mut file, algorithms)?
            }
        };
        let resumed =
            if have == 0 { String::new() } else { format!(", {} were there", HumanBytes(have)) };
        self.reporter.end(&format!("{} received{resumed}", HumanBytes(received)));
        Ok(Download { path, digests: Some(digests), slot })
    }

    fn digests(&self, file: &mut File, algorithms: &[Algorithm]) -> Result<Digests> {
        digests_of(file, algorithms, &mut |_| match self.interrupt.is_set() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }

    /// Returns the digests of a file that was downloaded earlier; `None` when it differs from what was
    /// downloaded, or when others may change it.
    fn verified(
        &self,
        slot: &Slot,
        path: &Path,
        algorithms: &[Algorithm],
    ) -> Result<Option<Digests>> {
        let opened = open_regular(path)
            .and_then(|file| doubt_of_file(&file, path).map(|doubt| (file, doubt)));
        let Ok((mut file, None)) = opened else { return Ok(None) };
        let digests = self.digests(&mut file, &with_sha256(algorithms))?;
        let same = digests.hex(Algorithm::Sha256) == slot.about.sha256;
        let now = file.metadata().ok().zip(path.symlink_metadata().ok());
        let named =
            now.is_some_and(|(file, path)| (file.dev(), file.ino()) == (path.dev(), path.ino()));
        Ok((same && named).then_some(digests))
    }

    /// Returns whether a complete file is still the server's current version. A file without a validator is not.
    fn is_current(&self, url: &Url, about: &About) -> Result<bool> {
        if about.etag.is_none() && about.last_modified.is_none() {
            return Ok(false);
        }
        // If the file has changed, the answer contains it; it is discarded, and the file is fetched from its
        // start afterwards.
        let header = match (&about.etag, &about.last_modified) {
            (Some(etag), _) => (IF_NONE_MATCH, etag.clone()),
            (None, date) => (IF_MODIFIED_SINCE, date.clone().unwrap_or_default()),
        };
        let headers = [header];
        let attempts = self.options.retries.min(3) + 1;
        let result = self.block_on(retry(attempts, async || {
            let answer = self.client.get(url, &headers).await?;
            match answer.status() {
                StatusCode::NOT_MODIFIED => Ok(true),
                StatusCode::OK => Ok(false),
                _ => Err(client::refusal(url, &answer)),
            }
        }));
        result.map_err(|failure| failure.error)
    }

    /// Downloads a file without support for resuming.
    pub(crate) fn fetch_into(&self, url: &Url, path: &Path) -> Result<u64> {
        self.warn(url);
        let file = File::create(path).map_err(|error| cannot_write(path, &error))?;
        let mut transfer = self.transfer(url, path, file, &[]);
        let fetched = self.drive(&mut transfer);
        let length = transfer.have;
        drop(transfer);
        fetched.map(|_| length).map_err(|failure| {
            let _ = fs::remove_file(path);
            failure.error
        })
    }

    /// Downloads a small file of at most `limit` bytes; `None` when the server does not have it.
    pub(crate) fn fetch_small(&self, url: &Url, limit: u64) -> Result<Option<Vec<u8>>> {
        let directory = tempfile::tempdir().map_err(|error| {
            Error::new(Stage::Disk, "cannot create a temporary directory").caused_by(&error)
        })?;
        let path = directory.path().join("small");
        let file = File::create(&path).map_err(|error| cannot_write(&path, &error))?;
        let mut transfer = self.transfer(url, &path, file, &[]);
        transfer.limit = Some(limit);
        match self.drive(&mut transfer) {
            Ok(_) => fs::read(&path).map(Some).map_err(|error| cannot("read", &path, &error)),
            Err(failure) if matches!(failure.status, Some(403 | 404 | 410)) => Ok(None),
            Err(failure) => Err(failure.error),
        }
    }

    fn transfer<'t>(
        &'t self,
        url: &'t Url,
        path: &'t Path,
        file: File,
        algorithms: &'t [Algorithm],
    ) -> Transfer<'t> {
        Transfer {
            url,
            client: &self.client,
            path,
            file,
            have: 0,
            about: About::default(),
            limit: None,
            headers: &[],
            algorithms,
            pass: None,
            received: 0,
            retries: self.options.retries,
            reporter: self.reporter,
            interrupt: self.interrupt,
            keep: None,
        }
    }

    /// Runs a transfer until it is done or cancelled; in the latter case, the received bytes are kept.
    fn drive(&self, transfer: &mut Transfer<'_>) -> Result<Option<Digests>, Failure> {
        let done = self.block_on(transfer.run());
        self.reporter.clear();
        if done.is_err()
            && let Err(error) = transfer.secure()
        {
            tracing::warn!(%error, "what arrived is not written down");
        }
        done
    }

    fn block_on<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let Some(runtime) = &self.runtime else {
            return Err(Error::new(Stage::Bug, "downloads are over").into());
        };
        runtime.block_on(async {
            tokio::select! {
                done = work => done,
                () = self.interrupt.cancelled() => Err(Error::interrupted().into()),
            }
        })
    }
}

/// Adds SHA-256, which identifies files that are kept.
fn with_sha256(algorithms: &[Algorithm]) -> Vec<Algorithm> {
    let mut algorithms = algorithms.to_vec();
    if !algorithms.contains(&Algorithm::Sha256) {
        algorithms.push(Algorithm::Sha256);
    }
    algorithms
}

/// Returns whether a request to this address sends a password in clear text.
fn sends_password_in_clear(url: &Url) -> bool {
    let has_user = !url.username().is_empty() || url.password().is_some();
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let local = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme() == "http" && has_user && !local
}
