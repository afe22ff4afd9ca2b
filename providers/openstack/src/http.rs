//! Sends requests to the services of a cloud, and turns their refusals into failures. In all functions `what` completes
//! "cannot …".

use std::time::Duration;

use build_image_plugin_api::{
    Error, ErrorKind, Result,
    http::{Answer, Body, Client, Hints, Outgoing},
    retry::{Failure, RetryAction},
};
use serde_json::Value;

/// Longest time until a call without a stream is answered.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// Longest text of a service that is shown, in characters.
const MOST_TEXT: usize = 400;
/// Advice about connections.
pub(crate) const HINTS: Hints = Hints::new(
    "check the network, the proxy variables (HTTPS_PROXY, NO_PROXY), and the interface and region of the cloud",
    "name a PEM file with the CA certificates of the cloud in OPENSTACK_CA_FILE or `cacert`",
    "look at the proxy (HTTPS_PROXY, NO_PROXY) and the URLs: something in between may have answered",
);

/// Connections to the services of a cloud.
pub(crate) struct Http(Client);

impl Http {
    /// Opens connections; `ca_file` replaces the system's CA certificates.
    ///
    /// # Errors
    /// Config errors when the CA certificates cannot be used.
    pub(crate) fn open(ca_file: Option<&str>) -> Result<Self> {
        const AGENT: &str = concat!("build-image-provider-openstack/", env!("CARGO_PKG_VERSION"));
        let builder = Client::builder(AGENT, HINTS);
        let builder = match ca_file {
            Some(path) => builder.ca_file(path)?,
            None => builder,
        };
        Ok(Self(builder.build()?))
    }

    /// Sends a request once, without a limit on the time.
    ///
    /// # Errors
    /// Broken connections; refusals are answers.
    pub(crate) async fn send(&self, outgoing: Outgoing, what: &str) -> Result<Answer, Failure> {
        self.0.send(outgoing, &format!("cannot {what}")).await
    }

    /// As [`Http::send`], with the time limit of a call.
    ///
    /// # Errors
    /// As [`Http::send`], and time-outs.
    pub(crate) async fn call(&self, outgoing: Outgoing, what: &str) -> Result<Answer, Failure> {
        self.0.call(outgoing, CALL_LIMIT, &format!("cannot {what}")).await
    }
}

/// Sets a JSON document of this media type as the body.
pub(crate) fn with_json(outgoing: Outgoing, kind: &'static str, document: &Value) -> Outgoing {
    outgoing.header("content-type", kind).body(Body::Bytes(document.to_string().into()))
}

/// The failure for an answer that the services never give: another server gave it.
pub(crate) fn foreign(what: &str) -> Failure {
    HINTS.foreign_answer(format!("cannot {what}: the answer is not that of an OpenStack service"))
}

/// What the services mean with their answers.
pub(crate) trait Meaning {
    /// Parses the body.
    ///
    /// # Errors
    /// When it is not JSON: another server answered.
    fn document(&self, what: &str) -> Result<Value, Failure>;

    /// Turns a refusal into a failure.
    fn refuse(&self, what: &str) -> Failure;
}

impl Meaning for Answer {
    fn document(&self, what: &str) -> Result<Value, Failure> {
        self.json().ok_or_else(|| foreign(what))
    }

    fn refuse(&self, what: &str) -> Failure {
        let text = text_of(&self.body);
        let exhausted = text.to_lowercase().contains("quota") || text.contains("media is full");
        let (kind, why, hint) = match self.status {
            401 => (
                ErrorKind::Auth,
                "the credentials are refused",
                Some("check user, password or secret, domain, and project"),
            ),
            403 if exhausted => (ErrorKind::Quota, "a quota is exhausted", Some(QUOTA_HINT)),
            403 => (
                ErrorKind::Auth,
                "permission is denied",
                Some("ask the operator which role the project needs for it"),
            ),
            404 => (ErrorKind::NotFound, "it does not exist", None),
            409 => (ErrorKind::Conflict, "its state does not permit it", None),
            410 => (ErrorKind::NotFound, "it does not exist any more", None),
            413 => (ErrorKind::Quota, "a quota or the storage is exhausted", Some(QUOTA_HINT)),
            415 => (
                ErrorKind::InvalidImage,
                "the service does not accept the data",
                Some(INSPECTED_HINT),
            ),
            429 => (ErrorKind::Throttled, "too many requests", None),
            500..600 => (
                ErrorKind::Provider,
                "the service failed",
                Some("try again later; the operator finds the cause by the request id"),
            ),
            _ => (ErrorKind::Provider, "the service refuses it", None),
        };
        let mut error =
            Error::new(kind, format!("cannot {what}: {why}")).with_context("status", self.status);
        let id = ["x-openstack-request-id", "x-compute-request-id"]
            .iter()
            .find_map(|name| self.header(name));
        if let Some(id) = id {
            error = error.with_context("request_id", id);
        }
        if !text.is_empty() {
            error.causes.push(text);
        }
        error.hint = hint.map(str::to_owned);
        let passing = matches!(self.status, 408 | 429 | 500 | 502..=504);
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

const INSPECTED_HINT: &str = "the service inspects images: check that a raw disk has a valid partition table, or set another OPENSTACK_DISK_FORMAT";
const QUOTA_HINT: &str =
    "delete images that are not needed, or ask the operator for a larger quota";

/// The service's explanation: the message of a JSON error, or the text of an HTML page.
fn text_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let message = serde_json::from_str::<Value>(&text).ok().and_then(|value| {
        let members = value.as_object()?.values().cloned().collect::<Vec<_>>();
        let message =
            |value: &Value| value.get("message").and_then(Value::as_str).map(str::to_owned);
        message(&value).or_else(|| members.iter().find_map(message))
    });
    let text = message.unwrap_or_else(|| {
        let page = text.split("</h1>").last().unwrap_or_default();
        let mut plain = String::new();
        let mut in_tag = false;
        for letter in page.chars() {
            match letter {
                '<' => in_tag = true,
                '>' => in_tag = false,
                _ if !in_tag => plain.push(letter),
                _ => {}
            }
        }
        for (code, letter) in
            [("&#x27;", "'"), ("&quot;", "\""), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")]
        {
            plain = plain.replace(code, letter);
        }
        plain
    });
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
    fn the_explanation_of_a_service_is_found_in_json_and_html() {
        let keystone =
            r#"{"error": {"code": 401, "message": "no  such user", "title": "Unauthorized"}}"#;
        assert_eq!(text_of(keystone.as_bytes()), "no such user");
        let glance = "<html>\n <head>\n  <title>409 Conflict</title>\n </head>\n <body>\n  <h1>409 Conflict</h1>\n  \
                      Image &#x27;a&#x27; is in use<br /><br />\n\n\n </body>\n</html>";
        assert_eq!(text_of(glance.as_bytes()), "Image 'a' is in use");
        assert_eq!(text_of(b""), "");
        assert_eq!(text_of(&[b'x'; 9000]).len(), MOST_TEXT);
    }

    #[test]
    fn statuses_have_kinds_and_only_passing_ones_are_repeated() {
        for (status, body, kind, action) in [
            (401, "", ErrorKind::Auth, RetryAction::RenewCredentials),
            (403, "", ErrorKind::Auth, RetryAction::GiveUp),
            (403, "over quota", ErrorKind::Quota, RetryAction::GiveUp),
            (404, "", ErrorKind::NotFound, RetryAction::GiveUp),
            (409, "", ErrorKind::Conflict, RetryAction::GiveUp),
            (413, "", ErrorKind::Quota, RetryAction::GiveUp),
            (429, "", ErrorKind::Throttled, RetryAction::Backoff),
            (501, "", ErrorKind::Provider, RetryAction::GiveUp),
            (503, "", ErrorKind::Provider, RetryAction::Backoff),
        ] {
            let failure = answer(status, body).refuse("create image `a`");
            assert_eq!((failure.error.kind, failure.action), (kind, action), "{status}");
            assert!(failure.error.message.starts_with("cannot create image `a`: "));
        }
    }
}
