//! Downloads one file, resuming after transient failures until it is complete or the retry budget is spent.

use std::{
    fs::File,
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
    time::Instant,
};

use build_image_plugin_api::Progress;
use bytes::Bytes;
use reqwest::{
    Response, StatusCode, Url,
    header::{
        CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_RANGE, LAST_MODIFIED,
        RANGE,
    },
};

use super::{
    client::{Failure, HttpClient, refusal},
    retry::BACKOFF,
    store::{About, cannot_write},
};
use crate::{
    artifacts::more_space,
    error::{Error, Result, Stage},
    interrupt::Interrupt,
    plan::free_space,
    report::Reporter,
    settings::keys::ARTIFACTS_DIR,
    signature::{Algorithm, Digests, Pass},
    source::address::display_url,
};

/// Number of received bytes after which the file is synced to the disk.
const SYNC: u64 = 64 << 20;
/// Free bytes that are left for other programs when the length of a file is unknown.
const RESERVE: u64 = 64 << 20;
/// Number of bytes after which the free space is checked again.
const RESERVE_CHECK: u64 = 16 << 20;
/// Maximum attempts if no connection was established.
const CONNECTING: u64 = 3;
/// Maximum attempts in all, regardless of their progress.
const ATTEMPTS: u64 = 200;

/// Records the progress of a file.
pub(super) type Keep<'a> = dyn FnMut(&About) -> Result<()> + 'a;

/// A download in progress.
pub(super) struct Transfer<'a> {
    pub(super) url: &'a Url,
    pub(super) client: &'a HttpClient,
    pub(super) path: &'a Path,
    pub(super) file: File,
    /// Bytes of the file that were received so far, also by earlier runs.
    pub(super) have: u64,
    /// The description of the file.
    pub(super) about: About,
    /// Maximum length in bytes.
    pub(super) limit: Option<u64>,
    /// Further headers of every request.
    pub(super) headers: &'a [(HeaderName, String)],
    /// The digests to compute during the download.
    pub(super) algorithms: &'a [Algorithm],
    /// Digests of everything received so far, if it was all received by this transfer.
    pub(super) pass: Option<Pass>,
    /// Bytes received by this transfer.
    pub(super) received: u64,
    pub(super) retries: u64,
    pub(super) reporter: &'a Reporter,
    pub(super) interrupt: &'a Interrupt,
    /// Records the progress; absent for files that are not resumed.
    pub(super) keep: Option<&'a mut Keep<'a>>,
}

impl Transfer<'_> {
    /// Downloads the missing bytes. Returns digests only if no bytes existed before.
    pub(super) async fn run(&mut self) -> Result<Option<Digests>, Failure> {
        let (mut in_a_row, mut made) = (0, 0);
        let started = Instant::now();
        loop {
            made += 1;
            let before = self.received;
            let mut failure = match self.attempt().await {
                Ok(()) => return self.end(),
                Err(failure) => failure,
            };
            if let Err(error) = self.secure()
                && failure.retryable
            {
                return Err(error.into());
            }
            in_a_row = if self.received > before { 1 } else { in_a_row + 1 };
            let connecting = failure.status.is_none() && self.received == 0;
            let allowed = if connecting { self.retries.min(CONNECTING) } else { self.retries };
            if !failure.retryable || in_a_row > allowed || made >= ATTEMPTS {
                if made > 1 {
                    failure.error.context.push(("attempts".to_owned(), made.to_string()));
                }
                return Err(failure.after(made, started.elapsed()));
            }
            let pause = BACKOFF.pause(in_a_row, failure.pause);
            let causes = failure.error.causes.join(": ");
            tracing::warn!(error = %failure.error, causes, attempt = made, ?pause, "trying again");
            self.reporter.milestone(&format!("{}; trying again", failure.error.message));
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends one request. On success the file is complete.
    async fn attempt(&mut self) -> Result<(), Failure> {
        if self.have > 0 && self.about.length == Some(self.have) {
            return Ok(());
        }
        let headers = self.headers()?;
        let mut response = self.client.get(self.url, &headers).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if self.have > 0 => self.check_part(&response)?,
            StatusCode::OK => self.begin(&response)?,
            StatusCode::RANGE_NOT_SATISFIABLE if self.have > 0 => {
                self.restart()?;
                return Err(Failure::transient(refusal(self.url, &response).error));
            }
            _ => return Err(refusal(self.url, &response)),
        }
        while let Some(chunk) = self.client.chunk(self.url, &mut response).await? {
            self.write(chunk)?;
        }
        match self.about.length {
            Some(length) if self.have < length => {
                let text = format!(
                    "`{}`: only {} of {length} bytes came",
                    display_url(self.url),
                    self.have
                );
                let hint = "the server or a proxy ends connections early; the same command goes on where it is now";
                Err(Failure::transient(Error::new(Stage::Source, text).hint(hint)))
            }
            _ => Ok(()),
        }
    }

    fn headers(&mut self) -> Result<Vec<(HeaderName, String)>> {
        let mut headers = self.headers.to_vec();
        if self.have == 0 {
            return Ok(headers);
        }
        let Some(validator) = self.about.range_validator().map(str::to_owned) else {
            // Without a validator, the rest may belong to another file.
            self.restart()?;
            return Ok(headers);
        };
        headers.extend([(RANGE, format!("bytes={}-", self.have)), (IF_RANGE, validator)]);
        Ok(headers)
    }

    /// Starts the file: from now on, its description comes from this answer.
    fn begin(&mut self, response: &Response) -> Result<(), Failure> {
        let headers = response.headers();
        // `identity` was requested: a server that names a coding all the same describes the file itself (RFC 9110 section
        // 12.5.3), as many do for `.gz`. It is stored as it is sent; compressed disks are recognised by their content.
        if let Some(coding) = text(headers, &CONTENT_ENCODING).filter(|coding| coding != "identity")
        {
            tracing::info!(url = display_url(self.url), coding, "stored as it is sent");
        }
        self.restart()?;
        self.about = About {
            url: display_url(self.url),
            etag: text(headers, &ETAG),
            last_modified: text(headers, &LAST_MODIFIED),
            length: response.content_length(),
            ..About::default()
        };
        if let (Some(length), Some(limit)) = (self.about.length, self.limit)
            && length > limit
        {
            return Err(too_long(self.url, limit).into());
        }
        self.check_space()?;
        self.record()?;
        Ok(())
    }

    /// Checks that the disk has room for the missing bytes.
    fn check_space(&self) -> Result<()> {
        let directory = self.path.parent().unwrap_or(self.path);
        let missing = self.about.length.map(|length| length.saturating_sub(self.have));
        let (Some(missing), Some(free)) = (missing, free_space(directory)) else { return Ok(()) };
        if missing <= free {
            return Ok(());
        }
        let text = format!(
            "`{}`: {missing} bytes are to come, and `{}` has {free} bytes free",
            display_url(self.url),
            directory.display()
        );
        Err(Error::new(Stage::Disk, text).hint(more_space(ARTIFACTS_DIR)))
    }

    /// Checks whether a file of unknown length may still grow.
    fn check_reserve(&self) -> Result<()> {
        let directory = self.path.parent().unwrap_or(self.path);
        let Some(free) = free_space(directory).filter(|&free| free < RESERVE) else {
            return Ok(());
        };
        let text = format!(
            "`{}`: {} bytes came, the server does not say how many there are, and `{}` has {free} bytes free",
            display_url(self.url),
            self.have,
            directory.display()
        );
        Err(Error::new(Stage::Disk, text).hint(format!(
            "check the address; free some space, or set {ARTIFACTS_DIR} to a larger file system"
        )))
    }

    /// Checks that an answer is the requested part: RFC 9110, section 14.4.
    fn check_part(&mut self, response: &Response) -> Result<(), Failure> {
        let range = text(response.headers(), &CONTENT_RANGE).unwrap_or_default();
        let rest = range.strip_prefix("bytes ").and_then(|rest| rest.split_once('/'));
        let (part, total) = rest.unwrap_or_default();
        let start = part.split_once('-').and_then(|(start, _)| start.parse().ok());
        let total: Option<u64> = total.parse().ok();
        let same = total.is_none() || self.about.length.is_none() || total == self.about.length;
        if start == Some(self.have) && same {
            self.about.length = self.about.length.or(total);
            tracing::info!(url = display_url(self.url), from = self.have, "going on");
            self.check_space()?;
            return Ok(());
        }
        self.restart()?;
        let text = format!("`{}`: the server sent part `{range}`", display_url(self.url));
        Err(Failure::transient(Error::new(Stage::Source, text).hint("ask who runs the server")))
    }

    fn restart(&mut self) -> Result<()> {
        (self.have, self.about.synced) = (0, 0);
        self.pass = Some(Pass::new(self.algorithms)?);
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map(|_| ()).map_err(|error| cannot_write(self.path, &error))
    }

    fn write(&mut self, chunk: Bytes) -> Result<(), Failure> {
        let length = chunk.len() as u64;
        if self.limit.is_some_and(|limit| self.have + length > limit) {
            return Err(too_long(self.url, self.limit.unwrap_or_default()).into());
        }
        if self.about.length.is_none()
            && self.received / RESERVE_CHECK != (self.received + length) / RESERVE_CHECK
        {
            self.check_reserve()?;
        }
        let written = self.file.write_all(&chunk);
        written.map_err(|error| cannot_write(self.path, &error))?;
        self.have += length;
        self.received += length;
        if let Some(pass) = &self.pass {
            pass.update(chunk)?;
        }
        let total = self.about.length.unwrap_or_default();
        self.reporter.progress(Progress::new(self.have, total));
        if self.have - self.about.synced >= SYNC {
            self.secure()?;
        }
        Ok(())
    }

    /// Syncs the received bytes to the disk and records their number.
    pub(super) fn secure(&mut self) -> Result<()> {
        if self.keep.is_none() || self.have == self.about.synced {
            return Ok(());
        }
        self.file.sync_data().map_err(|error| cannot_write(self.path, &error))?;
        self.about.synced = self.have;
        self.record()
    }

    fn record(&mut self) -> Result<()> {
        match &mut self.keep {
            Some(keep) => keep(&self.about),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<Option<Digests>, Failure> {
        self.secure()?;
        self.reporter.clear();
        self.interrupt.check()?;
        Ok(self.pass.take().map(Pass::finish).transpose()?)
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

pub(super) fn too_long(url: &Url, limit: u64) -> Error {
    let text = format!("`{}` has more than {limit} bytes", display_url(url));
    Error::new(Stage::Source, text).hint("check the address")
}
