//! The emulator's own endpoint, without authentication and for loopback only: `/_emulator/status`
//! (GET: counts) and `/_emulator/faults` (PUT: a new rule list).

use std::sync::Arc;

use serde_json::{Value, json};

use crate::http::{Answer, Head, RequestBody};
use crate::service::Service;

const MAX_RULES: u64 = 1 << 20;

/// Whether a request is for this endpoint. Virtual hosts keep their keys.
pub(crate) fn is_meant(head: &Head) -> bool {
    let name = head.host_name();
    let bare = name == "localhost" || name.parse::<std::net::IpAddr>().is_ok();
    bare && head.raw_path.starts_with("/_emulator/")
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
    head: &Head,
    body: &mut RequestBody,
    loopback: bool,
) -> Answer {
    if !loopback {
        return refuse(403, "the control endpoint answers to loopback only");
    }
    match (head.method.as_str(), head.raw_path.as_str()) {
        ("GET", "/_emulator/status") => answer(200, &service.store.world().counts()),
        ("PUT", "/_emulator/faults") => match body.whole(MAX_RULES).await {
            Ok(text) => match service.faults.set(&String::from_utf8_lossy(&text)) {
                Ok(()) => Answer::empty(204),
                Err(error) => refuse(400, &crate::chain(&error)),
            },
            Err(error) => refuse(400, &crate::chain(&error)),
        },
        (method, path) => refuse(404, &format!("there is no {method} {path}")),
    }
}
