//! Posts forms to a server that is notified of an event.

use std::time::Duration;

use reqwest::Url;
use tokio::runtime::Runtime;

use super::{
    client::{HttpClient, refusal},
    sends_password_in_clear,
};
use crate::{
    error::{Error, Result, Stage},
    interrupt::Interrupt,
    report::Reporter,
    settings::{Key, keys},
    source::{Address, address::display_url, redacted},
};

/// Longest time without an answer.
const STALL: Duration = Duration::from_secs(60);

/// A server's answer to a form.
pub(crate) enum Answered {
    /// Accepted.
    Yes,
    /// Refused permanently.
    No(Error),
    /// Not accepted now; retryable.
    NotNow(Error),
}

/// A server that receives forms.
pub(crate) struct Post {
    client: HttpClient,
    url: Url,
    runtime: Runtime,
}

impl Post {
    /// Creates a client for the server at `url`, which the setting `key` names.
    ///
    /// # Errors
    /// When it is not a URL.
    pub(crate) fn to(
        key: Key,
        url: &str,
        any_certificate: bool,
        reporter: &Reporter,
    ) -> Result<Self> {
        let Address::Url(url) = Address::of(key.name(), url)? else {
            return Err(Error::new(
                Stage::Settings,
                format!("{key}: `{}` is no URL", redacted(url)),
            )
            .hint("give an http or https URL"));
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            Error::new(Stage::Bug, "cannot start a runtime for HTTP").caused_by(&error)
        })?;
        if any_certificate && url.scheme() == "https" {
            reporter.warning(
                &format!(
                    "{} is on: {key} is sent to whoever answers for `{}`",
                    keys::IGNORE_DOWNLOAD_URL_TLS,
                    display_url(&url)
                ),
                Some("leave it out; SSL_CERT_FILE names the certificate of your own authority"),
            );
        }
        if sends_password_in_clear(&url) {
            let what = format!("{key}: user and password are sent without encryption");
            reporter.warning(&what, Some("give an https address"));
        }
        let client = HttpClient::open(any_certificate, STALL)?;
        Ok(Self { client, url, runtime })
    }

    /// Posts a form. Redirects are not followed: only the named server may answer. An interrupt ends the wait
    /// for the answer.
    pub(crate) fn send(&self, form: &[(&str, String)], interrupt: &Interrupt) -> Answered {
        let sent = self.runtime.block_on(async {
            tokio::select! {
                sent = self.client.post(&self.url, form) => sent,
                () = interrupt.cancelled() => Err(Error::interrupted().into()),
            }
        });
        let failure = match sent {
            Ok(response) if response.status().is_success() => return Answered::Yes,
            Ok(response) => refusal(&self.url, &response),
            Err(failure) => failure,
        };
        if failure.retryable {
            Answered::NotNow(failure.error)
        } else {
            Answered::No(failure.error)
        }
    }
}
