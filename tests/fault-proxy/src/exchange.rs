//! Handles one request: plans its faults, forwards it to the server, returns the answer, and ends the connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{
    CONNECTION, CONTENT_TYPE, DATE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use tokio::sync::Mutex;

use crate::body::{BodyError, Direction, Faulty, LONGEST_STALL};
use crate::control;
use crate::fault::{Ending, Plan, Status};
use crate::listener::Shared;
use crate::log::Record;
use crate::rules;

/// Limit on what is read of the body of a request that the proxy answers itself, in bytes.
const DRAINED: u64 = 64 << 20;

pub(crate) type Answer = Response<BoxBody<Bytes, BodyError>>;

/// The connection is to be reset instead of answered.
#[derive(Debug, thiserror::Error)]
#[error("the connection is reset by a fault")]
pub(crate) struct Reset;

/// The connection to the server that belongs to one connection of the client.
pub(crate) type Slot = Mutex<Option<SendRequest<Faulty>>>;

/// Answers one request, or resets its connection.
pub(crate) async fn exchange(
    shared: &Shared,
    slot: &Slot,
    request: Request<Incoming>,
) -> Result<Answer, Reset> {
    if request.uri().path().starts_with(control::PREFIX) {
        return Ok(control::respond(shared, request).await);
    }
    let seen = rules::Request {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        headers: request.headers(),
    };
    let (plan, struck) = shared.rules.plan(&seen);
    let record = shared.log.begin(&seen, struck);
    if request.method() == Method::CONNECT {
        let text = "this proxy forwards to one server; it does not open tunnels\n";
        return Ok(own(&record, text_answer(StatusCode::NOT_IMPLEMENTED, text)));
    }
    match &plan.ending {
        None | Some(Ending::ResetAfter) => forward(shared, slot, request, plan, record).await,
        Some(ending) => {
            record.applied(ending.name());
            instead(shared, ending, request, &record).await
        }
    }
}

/// What happens instead of forwarding.
async fn instead(
    shared: &Shared,
    ending: &Ending,
    request: Request<Incoming>,
    record: &Arc<Record>,
) -> Result<Answer, Reset> {
    match ending {
        Ending::Status(status) => {
            // A client that sent `Expect: 100-continue` must not get permission; any other client reads the answer
            // only after it has sent everything.
            if !request.headers().contains_key(EXPECT) {
                drain(request.into_body()).await;
            }
            Ok(own(record, status_answer(status)))
        }
        Ending::Stall => {
            tokio::time::sleep(LONGEST_STALL).await;
            Err(Reset)
        }
        Ending::Refuse(time) => {
            shared.refuse(*time).await;
            Err(Reset)
        }
        Ending::ResetBefore | Ending::ResetAfter => Err(Reset),
    }
}

async fn forward(
    shared: &Shared,
    slot: &Slot,
    request: Request<Incoming>,
    plan: Plan,
    record: Arc<Record>,
) -> Result<Answer, Reset> {
    let (mut parts, body) = request.into_parts();
    parts.uri =
        parts.uri.path_and_query().map_or(Uri::from_static("/"), |path| path.clone().into());
    parts.version = Version::HTTP_11;
    drop_hop_headers(&mut parts.headers);
    if !parts.headers.contains_key(HOST) {
        parts.headers.insert(HOST, shared.upstream.authority.clone());
    }
    let body = Faulty::new(body, plan.request, Direction::ToServer, Arc::clone(&record));
    let sent = {
        let mut slot = slot.lock().await;
        shared.upstream.send(&mut slot, Request::from_parts(parts, body)).await
    };
    let response = match sent {
        Ok(response) => response,
        Err(_) if record.has("truncate_request") || record.has("stall_request") => {
            return Err(Reset);
        }
        Err(error) => {
            let text = format!("the server behind the fault proxy gave no answer: {error}\n");
            record.note(|entry| entry.error = Some(text.trim_end().to_owned()));
            return Ok(own(&record, text_answer(StatusCode::BAD_GATEWAY, &text)));
        }
    };
    let (mut parts, body) = response.into_parts();
    if plan.ending == Some(Ending::ResetAfter) {
        // The server has handled the request when its answer is complete.
        drain(body).await;
        record.applied("reset_after");
        return Err(Reset);
    }
    if plan.delay > Duration::ZERO {
        record.applied("delay_answer_ms");
        tokio::time::sleep(plan.delay).await;
    }
    if plan.skew != 0 {
        record.applied("skew_seconds");
        skew(&mut parts.headers, plan.skew);
    }
    parts.version = Version::HTTP_11;
    drop_hop_headers(&mut parts.headers);
    record.note(|entry| entry.status = Some(parts.status.as_u16()));
    let body = Faulty::new(body, plan.answer, Direction::ToClient, record);
    Ok(Response::from_parts(parts, body.boxed()))
}

/// Headers that belong to one connection (RFC 9110, 7.6.1). Bodies are framed again.
fn drop_hop_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

/// Shifts the answer's `Date`; a missing or unreadable one is replaced with the shifted current time.
fn skew(headers: &mut HeaderMap, seconds: i64) {
    let sent = headers.get(DATE).and_then(|date| date.to_str().ok());
    let sent = sent.and_then(|date| rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
    let wrong = sent.unwrap_or_else(Timestamp::now).checked_add(SignedDuration::from_secs(seconds));
    let text = wrong
        .ok()
        .and_then(|wrong| rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&wrong).ok());
    if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(DATE, value);
    }
}

/// Reads and discards a body, up to a limit.
async fn drain(mut body: Incoming) {
    let mut read = 0;
    while read < DRAINED && !body.is_end_stream() {
        let Some(Ok(frame)) = body.frame().await else { return };
        read += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}

fn own(record: &Record, answer: Answer) -> Answer {
    record.note(|entry| {
        entry.status = Some(answer.status().as_u16());
        entry.answer_bytes = answer.body().size_hint().lower();
    });
    answer
}

fn status_answer(status: &Status) -> Answer {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = text_answer(code, status.body.as_deref().unwrap_or_default());
    let kind = status.content_type.as_deref().unwrap_or("text/plain; charset=utf-8");
    if let Ok(value) = HeaderValue::from_str(kind) {
        answer.headers_mut().insert(CONTENT_TYPE, value);
    }
    if let Some(seconds) = status.retry_after {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// An answer of the proxy with a text body.
pub(crate) fn text_answer(status: StatusCode, text: &str) -> Answer {
    let body = Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed());
    *answer.status_mut() = status;
    answer
}
