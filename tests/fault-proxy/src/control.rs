//! Serves the control paths, which change the rules and return the request log while the proxy runs.

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use crate::exchange::{Answer, text_answer};
use crate::listener::Shared;

/// Prefix of the control paths.
pub(crate) const PREFIX: &str = "/_fault-proxy/";
/// Maximum length of rules, in bytes.
const LONGEST: usize = 1 << 20;

/// Answers a request to a control path. It is neither forwarded, struck nor logged.
pub(crate) async fn respond(shared: &Shared, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().strip_prefix(PREFIX).unwrap_or_default().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "rules") => {
            text_answer(StatusCode::OK, &format!("{}\n", shared.rules.show()))
        }
        (&Method::PUT, "rules") => {
            let Ok(text) = Limited::new(request.into_body(), LONGEST).collect().await else {
                return text_answer(StatusCode::PAYLOAD_TOO_LARGE, "the rules are too long\n");
            };
            let text = String::from_utf8_lossy(&text.to_bytes()).into_owned();
            match shared.rules.set(&text, shared.seed) {
                Ok(()) => text_answer(StatusCode::OK, ""),
                Err(error) => text_answer(StatusCode::BAD_REQUEST, &format!("{}\n", chain(&error))),
            }
        }
        (&Method::GET, "log") => {
            let entries = shared.log.entries();
            let lines = entries.iter().filter_map(|entry| serde_json::to_string(entry).ok());
            let text: String = lines.map(|line| line + "\n").collect();
            text_answer(StatusCode::OK, &text)
        }
        (_, "rules" | "log") => text_answer(StatusCode::METHOD_NOT_ALLOWED, ""),
        _ => text_answer(StatusCode::NOT_FOUND, "there are `rules` (GET, PUT) and `log` (GET)\n"),
    }
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}
