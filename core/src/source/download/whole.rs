//! Fetches documents and files that have a longest length and belong to no run: nothing of them is kept for a later
//! command.

use std::{fs::File, path::Path};

use reqwest::{
    Url,
    header::{HeaderName, WWW_AUTHENTICATE},
};

use super::{
    Downloader, cannot_write,
    client::{Failure, refusal},
    retry::retry,
};
use crate::error::{Error, Result, Stage};

/// Status codes that are answers to the caller's question: refused, or absent.
const ANSWERS: [u16; 4] = [401, 403, 404, 410];

/// The answer to a request for a document.
pub(crate) struct Reply {
    /// The status code.
    pub(crate) status: u16,
    /// How to authenticate, of a refused request.
    pub(crate) challenge: Option<String>,
    /// The document.
    pub(crate) body: Vec<u8>,
    /// The error for a request that was refused.
    pub(crate) refusal: Option<Error>,
}

impl Downloader<'_> {
    /// Requests a document of at most `limit` bytes. A refusal and an absent document are answers.
    ///
    /// # Errors
    /// When the server cannot be reached, fails, or sends more.
    pub(crate) fn ask(
        &self,
        url: &Url,
        headers: &[(HeaderName, String)],
        limit: u64,
    ) -> Result<Reply> {
        self.warn(url);
        let attempts = self.options.retries.min(3) + 1;
        let reply =
            self.block_on(retry(attempts, async || self.answer_of(url, headers, limit).await));
        reply.map_err(|failure| failure.error)
    }

    async fn answer_of(
        &self,
        url: &Url,
        headers: &[(HeaderName, String)],
        limit: u64,
    ) -> Result<Reply, Failure> {
        let mut answer = self.client.get(url, headers).await?;
        let status = answer.status();
        if !status.is_success() {
            let failure = refusal(url, &answer);
            if !ANSWERS.contains(&status.as_u16()) {
                return Err(failure);
            }
            let challenge = answer.headers().get(WWW_AUTHENTICATE);
            let challenge = challenge.and_then(|value| value.to_str().ok()).map(str::to_owned);
            let refusal = Some(failure.error);
            return Ok(Reply { status: status.as_u16(), challenge, body: Vec::new(), refusal });
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.client.chunk(url, &mut answer).await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(super::transfer::too_long(url, limit).into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status: status.as_u16(), challenge: None, body, refusal: None })
    }

    /// Downloads a file of at most `limit` bytes, resuming after broken connections. Returns its length.
    ///
    /// # Errors
    /// When it cannot be fetched or written, or is longer; the file is removed then.
    pub(crate) fn fetch_whole(
        &self,
        url: &Url,
        headers: &[(HeaderName, String)],
        path: &Path,
        limit: u64,
    ) -> Result<u64> {
        self.warn(url);
        let file = File::create_new(path).map_err(|error| cannot_write(path, &error))?;
        let mut transfer = self.transfer(url, path, file, &[]);
        (transfer.limit, transfer.headers) = (Some(limit), headers);
        let fetched = self.drive(&mut transfer);
        let length = transfer.have;
        drop(transfer);
        fetched.map(|_| length).map_err(|failure| {
            let _ = std::fs::remove_file(path);
            match failure.error.stage {
                Stage::Source if failure.status == Some(404) => {
                    failure.error.hint("ask the publisher: the index names a file that is absent")
                }
                _ => failure.error,
            }
        })
    }
}
