//! A form posted to a server that is told something.

use std::time::Duration;

use reqwest::Url;
use tokio::runtime::Runtime;

use super::{
    client::{HttpClient, refusal},
    interrupted, sends_password_in_clear,
};
use crate::{
    error::{Error, Result, Stage},
    interrupt::Interrupt,
    report::Reporter,
    settings::Resolved,
    source::{Address, address::shown, redacted},
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
    door: HttpClient,
    url: Url,
    runtime: Runtime,
}

impl Post {
    /// The server at `url`; IGNORE_DOWNLOAD_URL_TLS counts for it too.
    ///
    /// # Errors
    /// When that is no URL.
    pub(crate) fn to(
        key: &str,
        url: &str,
        settings: &Resolved,
        reporter: &Reporter,
    ) -> Result<Self> {
        let Address::Url(url) = Address::of(key, url)? else {
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
        let any_certificate = settings.is_on("IGNORE_DOWNLOAD_URL_TLS");
        if any_certificate && url.scheme() == "https" {
            reporter.warning(
                &format!(
                    "IGNORE_DOWNLOAD_URL_TLS is on: {key} is sent to whoever answers for `{}`",
                    shown(&url)
                ),
                Some("leave it out; SSL_CERT_FILE names the certificate of your own authority"),
            );
        }
        if sends_password_in_clear(&url) {
            let what = format!("{key}: user and password are sent without encryption");
            reporter.warning(&what, Some("give an https address"));
        }
        let door = HttpClient::open(any_certificate, STALL)?;
        Ok(Self { door, url, runtime })
    }

    /// Posts a form. Redirects are not followed: who answers is who was named. An interrupt ends the wait for the
    /// answer.
    pub(crate) fn send(&self, form: &[(&str, String)], interrupt: &Interrupt) -> Answered {
        let sent = self.runtime.block_on(async {
            tokio::select! {
                sent = self.door.post(&self.url, form) => sent,
                () = interrupted(interrupt) => Err(Error::interrupted().into()),
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
