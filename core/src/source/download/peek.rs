//! Fetches the start of a remote file, without storing any of it on disk.

use reqwest::{StatusCode, Url, header::RANGE};

use super::{
    Downloader,
    client::{Failure, refusal},
    retry::retry,
};
use crate::error::Result;

/// Number of attempts; few, because the user waits for the answer.
const ATTEMPTS: u64 = 3;

impl Downloader<'_> {
    /// Fetches at most the first `length` bytes of a file, with one ranged GET: addresses that are signed for
    /// GET refuse a HEAD. The answer of a server that ignores the range is not read any further.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    pub(crate) fn fetch_head(&self, url: &Url, length: u64) -> Result<Vec<u8>> {
        let range = [(RANGE, format!("bytes=0-{}", length.saturating_sub(1)))];
        let limit = usize::try_from(length).unwrap_or(usize::MAX);
        let fetched = self.block_on(retry(ATTEMPTS, async || self.head(url, &range, limit).await));
        fetched.map_err(|failure| failure.error)
    }

    async fn head(
        &self,
        url: &Url,
        range: &[(reqwest::header::HeaderName, String)],
        limit: usize,
    ) -> Result<Vec<u8>, Failure> {
        let mut answer = self.client.get(url, range).await?;
        // 416: the file is empty, or the server does not support ranges for it.
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
            StatusCode::RANGE_NOT_SATISFIABLE => return Ok(Vec::new()),
            _ => return Err(refusal(url, &answer)),
        }
        let mut head = Vec::new();
        while head.len() < limit
            && let Some(chunk) = self.client.chunk(url, &mut answer).await?
        {
            head.extend_from_slice(&chunk[..chunk.len().min(limit - head.len())]);
        }
        Ok(head)
    }
}
