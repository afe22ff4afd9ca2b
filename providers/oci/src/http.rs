//! Sends requests to a registry and its token server, and turns their refusals into failures. In all functions `what`
//! completes "cannot …".

use std::time::Duration;

use build_image_plugin_api::{
    Error, ErrorKind, Result,
    http::{Answer, Client, Hints, Outgoing},
    retry::{Failure, RetryAction},
};
use serde_json::Value;

/// Longest time until a call without a stream is answered.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(60);
/// Longest text of a registry that is shown, in characters.
const MOST_TEXT: usize = 400;
/// Advice about connections.
pub(crate) const HINTS: Hints = Hints::new(
    "check the network, the proxy variables (HTTPS_PROXY, NO_PROXY), and the registry's name and port in OCI_REFERENCE",
    "name a PEM file with the CA certificates of the registry in OCI_CA_FILE",
    "look at OCI_REFERENCE and the proxy (HTTPS_PROXY, NO_PROXY): another server may have answered",
);

/// Connections to a registry and its token server.
pub(crate) struct Http(Client);

impl Http {
    /// Opens connections; `ca_file` replaces the system's CA certificates;
    /// `any_certificate` accepts every server.
    ///
    /// # Errors
    /// Config errors when the CA certificates cannot be used.
    pub(crate) fn open(ca_file: Option<&str>, any_certificate: bool) -> Result<Self> {
        const AGENT: &str = concat!("build-image-provider-oci/", env!("CARGO_PKG_VERSION"));
        let builder = Client::builder(AGENT, HINTS).any_certificate(any_certificate);
        let builder = match ca_file {
            Some(path) => builder.ca_file(path)?,
            None => builder,
        };
        Ok(Self(builder.build()?))
    }

    /// Sends a request once, with a time limit.
    ///
    /// # Errors
    /// Broken connections and time-outs; refusals are answers.
    pub(crate) async fn call(
        &self,
        outgoing: Outgoing,
        limit: Duration,
        what: &str,
    ) -> Result<Answer, Failure> {
        self.0.call(outgoing, limit, &format!("cannot {what}")).await
    }
}

/// The failure for an answer that registries never give: another server gave it.
pub(crate) fn foreign(what: &str) -> Failure {
    HINTS.foreign_answer(format!("cannot {what}: the answer is not that of an OCI registry"))
}

/// What registries mean with their answers.
pub(crate) trait Meaning {
    /// Parses the body.
    ///
    /// # Errors
    /// When it is not JSON: another server answered.
    fn document(&self, what: &str) -> Result<Value, Failure>;

    /// Turns a refusal into a failure. The codes are those of the OCI distribution specification 1.1, "Error Codes".
    fn refuse(&self, what: &str) -> Failure;
}

impl Meaning for Answer {
    fn document(&self, what: &str) -> Result<Value, Failure> {
        self.json().ok_or_else(|| foreign(what))
    }

    fn refuse(&self, what: &str) -> Failure {
        let errors = errors_of(&self.body);
        let text = errors.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("; ");
        let text = if errors.is_empty() { plain_text(&self.body) } else { shorten(&text) };
        let has = |code: &str| errors.iter().any(|(found, _)| found == code);
        let full =
            ["no space left", "quota", "insufficient storage", "storage limit", "file too large"];
        let lower = String::from_utf8_lossy(&self.body).to_lowercase();
        // Distribution writes the number of the operating system's error (28: ENOSPC, 122: EDQUOT).
        let full_disk = lower.contains("\"err\":28") || lower.contains("\"err\":122");
        let exhausted = full_disk
            || self.status == 413
            || self.status == 507
            || full.iter().any(|word| lower.contains(word));
        let (kind, why, hint) = explain(self.status, exhausted, has("NAME_UNKNOWN"));
        let mut error =
            Error::new(kind, format!("cannot {what}: {why}")).with_context("status", self.status);
        if !text.is_empty() {
            error.causes.push(text);
        }
        error.hint = hint.map(str::to_owned);
        // Blobs that were sent just now: registries of several servers, and Distribution while another client sends the
        // same blob, may not see them at once.
        let unseen = has("MANIFEST_BLOB_UNKNOWN");
        let passing = !exhausted && (unseen || matches!(self.status, 408 | 429 | 500 | 502..=504));
        error.retryable = passing;
        let action = match self.status {
            401 => RetryAction::RenewCredentials,
            _ if passing => RetryAction::Backoff,
            _ => RetryAction::GiveUp,
        };
        let mut failure = Failure::refused(error, action);
        (failure.status, failure.pause) = (Some(self.status), self.retry_after());
        failure
    }
}

/// Returns what a status means: kind, reason, and hint.
fn explain(
    status: u16,
    exhausted: bool,
    no_repository: bool,
) -> (ErrorKind, &'static str, Option<&'static str>) {
    match status {
        _ if exhausted && status != 401 => (
            ErrorKind::Quota,
            "the registry's storage, quota, or request limit is exhausted",
            Some(QUOTA_HINT),
        ),
        401 => (ErrorKind::Auth, "the credentials are refused", Some(AUTH_HINT)),
        403 => (ErrorKind::Auth, "permission is denied", Some(PERMISSION_HINT)),
        404 if no_repository => (
            ErrorKind::NotFound,
            "the registry does not have the repository",
            Some("create the repository, or correct OCI_REFERENCE"),
        ),
        404 => (ErrorKind::NotFound, "it does not exist", None),
        405 => (ErrorKind::Unsupported, "the registry does not permit it", None),
        409 => (
            ErrorKind::Conflict,
            "its state does not permit it",
            Some("another program may write to the repository, or its tags are immutable"),
        ),
        429 => (ErrorKind::Throttled, "too many requests", None),
        300..=399 => {
            (ErrorKind::Provider, "the registry redirects the request", Some(REDIRECT_HINT))
        }
        500..=599 => (
            ErrorKind::Provider,
            "the registry failed",
            Some("try again later; the registry's log has the cause"),
        ),
        _ => (ErrorKind::Provider, "the registry refuses it", None),
    }
}

const QUOTA_HINT: &str = "free space in the registry, or ask its operator for a larger limit; a smaller OCI_CHUNK_SIZE makes requests shorter";
const AUTH_HINT: &str =
    "log in again with `skopeo login` or `docker login`, or set OCI_USERNAME and OCI_PASSWORD";
const PERMISSION_HINT: &str =
    "ask the registry's operator for permission to push to the repository";
const REDIRECT_HINT: &str =
    "write the registry's own name in OCI_REFERENCE; with OCI_TLS=off it may be HTTPS only";

/// The codes and explanations of a registry's errors.
fn errors_of(body: &[u8]) -> Vec<(String, String)> {
    let Ok(document) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let errors = document["errors"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    errors
        .iter()
        .map(|error| {
            let (code, message) = (text(&error["code"]), text(&error["message"]));
            let shown =
                if message.is_empty() { code.clone() } else { format!("{code}: {message}") };
            match &error["detail"] {
                Value::String(detail) => (code, format!("{shown} ({detail})")),
                Value::Object(detail) if !detail.is_empty() => {
                    (code, format!("{shown} ({})", error["detail"]))
                }
                _ => (code, shown),
            }
        })
        .collect()
}

/// The text of another answer, unless it is a page.
fn plain_text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') { String::new() } else { shorten(&text) }
}

fn shorten(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|letter| !letter.is_control()).take(MOST_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer::new(status, reqwest::header::HeaderMap::new(), body.to_owned())
    }

    #[test]
    fn statuses_and_codes_have_kinds_and_only_passing_ones_are_repeated() {
        let unknown =
            r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known"}]}"#;
        let unseen = r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown"}]}"#;
        let full = r#"{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"Enclosed":{"Op":"write","Err":28}}}]}"#;
        for (status, body, kind, action, text) in [
            (401, "", ErrorKind::Auth, RetryAction::RenewCredentials, "credentials"),
            (403, "", ErrorKind::Auth, RetryAction::GiveUp, "permission"),
            (
                404,
                unknown,
                ErrorKind::NotFound,
                RetryAction::GiveUp,
                "does not have the repository",
            ),
            (405, "", ErrorKind::Unsupported, RetryAction::GiveUp, "does not permit"),
            (409, "", ErrorKind::Conflict, RetryAction::GiveUp, "state"),
            (413, "", ErrorKind::Quota, RetryAction::GiveUp, "exhausted"),
            (429, "", ErrorKind::Throttled, RetryAction::Backoff, "too many"),
            (301, "", ErrorKind::Provider, RetryAction::GiveUp, "redirects"),
            (500, full, ErrorKind::Quota, RetryAction::GiveUp, "exhausted"),
            (503, "<html>", ErrorKind::Provider, RetryAction::Backoff, "failed"),
            (400, unseen, ErrorKind::Provider, RetryAction::Backoff, "refuses"),
        ] {
            let failure = answer(status, body).refuse("upload");
            assert_eq!((failure.error.kind, failure.action), (kind, action), "{status}");
            assert!(failure.error.message.contains(text), "{}", failure.error);
            assert!(!failure.error.causes.iter().any(|cause| cause.contains('<')));
        }
        let failure = answer(404, unknown).refuse("upload");
        assert_eq!(failure.error.causes, ["NAME_UNKNOWN: repository name not known"]);
    }
}
