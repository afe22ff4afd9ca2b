//! A form posted to a server that is told something.

use std::time::Duration;

use reqwest::Url;
use tokio::runtime::Runtime;

use super::client::{Door, refusal};
use crate::{
    error::{Error, Result, Stage},
    settings::Resolved,
    source::Address,
};

/// Longest time nothing may come back.
const STALL: Duration = Duration::from_secs(60);

/// What a server said to a form.
pub(crate) enum Answered {
    /// It took it.
    Yes,
    /// It will never take it.
    No(Error),
    /// It may take it later.
    NotNow(Error),
}

/// A server that forms are posted to.
pub(crate) struct Post {
    door: Door,
    url: Url,
    runtime: Runtime,
}

impl Post {
    /// The server at `url`; IGNORE_DOWNLOAD_URL_TLS counts for it too.
    ///
    /// # Errors
    /// When that is no URL.
    pub(crate) fn to(key: &str, url: &str, settings: &Resolved) -> Result<Self> {
        let Address::Url(url) = Address::of(key, url)? else {
            return Err(Error::new(Stage::Settings, format!("{key}: `{url}` is no URL"))
                .hint("give an http or https URL"));
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            Error::new(Stage::Bug, "cannot start a runtime for HTTP").because(&error)
        })?;
        let door = Door::open(settings.is_on("IGNORE_DOWNLOAD_URL_TLS"), STALL)?;
        Ok(Self { door, url, runtime })
    }

    /// Posts a form. Redirects are not followed: who answers is who was named.
    pub(crate) fn send(&self, form: &[(&str, String)]) -> Answered {
        let failure = match self.runtime.block_on(self.door.post(&self.url, form)) {
            Ok(response) if response.status().is_success() => return Answered::Yes,
            Ok(response) => refusal(&self.url, &response),
            Err(failure) => failure,
        };
        if failure.passes { Answered::NotNow(failure.error) } else { Answered::No(failure.error) }
    }
}
