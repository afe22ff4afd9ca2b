//! Serves the emulator's own endpoint, without authentication and for loopback only: `/_emulator/` (a page
//! for people, to which the root sends browsers), `/_emulator/sections` (its parts that change), `/_emulator/status` (GET: counts), `/_emulator/faults` (PUT: a new rule list, GET: the rules
//! with how often they struck, DELETE: none), `/_emulator/credentials` (GET: temporary keys, as clients read
//! them from `ALIBABA_CLOUD_CREDENTIALS_URI`).

use std::sync::Arc;

use serde_json::{Value, json};

use crate::http::{Answer, Head, RequestBody};
use crate::identity::metadata;
use crate::service::{Context, Service};
use crate::web;

/// Path of the page for people.
pub(crate) const PAGE: &str = "/_emulator/";

const MAX_RULES: u64 = 1 << 20;

/// Whether a request is for this endpoint. On virtual hosts such paths are object keys.
pub(crate) fn is_meant(head: &Head, loopback: bool) -> bool {
    let name = head.host_name();
    let bare = name == "localhost" || name.parse::<std::net::IpAddr>().is_ok();
    let path = head.raw_path.as_str();
    bare && (path == "/_emulator"
        || path.starts_with("/_emulator/")
        || (loopback && web::is_browser(head)))
}

fn answer(status: u16, value: &Value) -> Answer {
    Answer::text(status, "application/json", format!("{value}\n"))
}

fn refuse(status: u16, why: &str) -> Answer {
    answer(status, &json!({ "error": why }))
}

/// Serves one request.
pub(crate) async fn serve(
    service: &Arc<Service>,
    context: &Context<'_>,
    head: &Head,
    body: &mut RequestBody,
    loopback: bool,
) -> Answer {
    if !loopback {
        return refuse(403, "the control endpoint answers to loopback only");
    }
    match (head.method.as_str(), head.raw_path.as_str()) {
        ("GET", "/" | "/_emulator") => Answer::empty(302)
            .with("location", PAGE)
            .with("cache-control", "no-store")
            .with("vary", "accept"),
        ("GET", PAGE) => web::page(service, head, context.now),
        ("GET", "/_emulator/sections") => web::sections(service, head, context.now),
        ("GET", "/_emulator/credentials") => metadata::document(context, "credentials-uri"),
        ("GET", "/_emulator/faults") => answer(200, &service.faults.tell()),
        ("DELETE", "/_emulator/faults") => match service.faults.set("[]") {
            Ok(()) => Answer::empty(204),
            Err(error) => refuse(500, &crate::chain(&error)),
        },
        ("GET", "/_emulator/status") => answer(200, &service.store.world().counts()),
        ("PUT", "/_emulator/faults") => match body.whole(MAX_RULES).await {
            Ok(text) => match service.faults.set(&String::from_utf8_lossy(&text)) {
                Ok(()) => Answer::empty(204),
                Err(error) => refuse(400, &crate::chain(&error)),
            },
            Err(error) => refuse(400, &crate::chain(&error)),
        },
        (method, path) => refuse(404, &format!("unknown: {method} {path}")),
    }
}
