//! Implements the common part of ECS, STS, and RAM: one POST or GET of `/` with parameters in query or form,
//! an action and a version, a signature (ACS3 or the old RPC form), a nonce used once, JSON output. The
//! headers `x-acs-action` and `x-acs-version` come with both signatures.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::Value;

use crate::auth::{acs3, encode, rpc_v1};
use crate::clock::Millis;
use crate::ecs;
use crate::ecs::error::AcsError;
use crate::ecs::params::Params;
use crate::http::{Answer, Head, RequestBody};
use crate::identity::{ram, session, sts};
use crate::service::{Context, Service};

const MAX_BODY: u64 = 1 << 20;
/// Nonces older than twice the time window can no longer pass the clock check.
const NONCE_LIFE: Millis = 2 * acs3::MAX_SKEW;

/// The service of a call, by its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AcsService {
    Ecs,
    Sts,
    Ram,
    Unknown,
}

impl AcsService {
    /// Short name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ecs => "ecs",
            Self::Sts => "sts",
            Self::Ram => "ram",
            Self::Unknown => "unknown",
        }
    }

    fn of_version(version: &str) -> Self {
        match version {
            "2014-05-26" => Self::Ecs,
            "2015-04-01" => Self::Sts,
            "2015-05-01" => Self::Ram,
            _ => Self::Unknown,
        }
    }
}

/// A call with its whole body.
#[derive(Debug)]
pub(crate) struct AcsCall {
    pub(crate) service: AcsService,
    pub(crate) action: String,
    pub(crate) params: Params,
    body: Bytes,
}

/// Recently used nonces.
#[derive(Debug, Default)]
pub(crate) struct Nonces {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    at: HashMap<String, Millis>,
    /// Number of nonces from which on old ones are removed.
    tidy_at: usize,
}

impl Nonces {
    /// Records a nonce; refuses one that was used before.
    fn check(&self, nonce: &str, now: Millis) -> Result<(), AcsError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.at.len() > seen.tidy_at.max(10_000) {
            seen.at.retain(|_, at| (now - *at).abs() < NONCE_LIFE);
            // Twice the number that is left, so that the removal stays rare.
            seen.tidy_at = seen.at.len() * 2;
        }
        match seen.at.insert(nonce.to_owned(), now) {
            None => Ok(()),
            Some(_) => Err(AcsError::new(
                400,
                "SignatureNonceUsed",
                "Specified signature nonce was used already.",
            )),
        }
    }
}

fn is_form(head: &Head) -> bool {
    head.header("content-type")
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
}

/// Whether a request is for one of these services rather than for OSS.
pub(crate) fn is_meant(head: &Head) -> bool {
    head.headers.contains_key("x-acs-action")
        || acs3::is_used(head)
        || (head.raw_path == "/"
            && (head.has("Action") || (head.method == "POST" && is_form(head))))
}

/// Reads the body and determines action and parameters.
pub(crate) async fn read(head: &Head, body: &mut RequestBody) -> Result<AcsCall, AcsError> {
    let whole = body.whole(MAX_BODY).await.map_err(|error| {
        AcsError::new(400, "InvalidParameter", &format!("The request is unusable: {error}."))
    })?;
    let mut pairs = head.query.clone();
    if is_form(head) {
        let text = std::str::from_utf8(&whole).ok();
        let form = text.and_then(encode::pairs).ok_or_else(|| {
            AcsError::new(400, "InvalidParameter", "The form of the request is not UTF-8.")
        })?;
        pairs.extend(form);
    }
    let params = Params::new(pairs);
    let either = |header: &str, name: &str| {
        head.header(header).or_else(|| params.get(name)).unwrap_or_default().to_owned()
    };
    let action = either("x-acs-action", "Action");
    let service = AcsService::of_version(&either("x-acs-version", "Version"));
    Ok(AcsCall { service, action, params, body: whole })
}

/// Serves one call.
pub(crate) async fn serve(
    service: &Arc<Service>,
    context: &Context<'_>,
    head: &Head,
    call: &AcsCall,
    request_id: &str,
) -> Result<Answer, AcsError> {
    if call.service == AcsService::Sts && call.action == "AssumeRoleWithOIDC" {
        let value = sts::assume_with_oidc(context, &call.params)?;
        return Ok(answer(value, request_id));
    }
    let accounts = &session::accounts(context);
    let (key_id, nonce) = if acs3::is_used(head) {
        let key_id = acs3::verify(head, &call.body, accounts, context.now)?;
        (key_id, head.header("x-acs-signature-nonce").unwrap_or_default())
    } else if call.params.get("Signature").is_some() {
        let pairs = call.params.pairs();
        let key_id = rpc_v1::verify(&head.method, pairs, accounts, context.now)?;
        (key_id, call.params.get("SignatureNonce").unwrap_or_default())
    } else {
        return Err(AcsError::missing("AccessKeyId"));
    };
    service.nonces.check(&format!("{key_id}/{nonce}"), context.now)?;
    if session::is_expired(context, &key_id) {
        return Err(AcsError::expired());
    }
    let context = &context.of_key(&key_id);
    let value = match call.service {
        AcsService::Ecs => ecs::serve(service, context, &call.action, &call.params).await?,
        AcsService::Sts => sts::serve(context, &call.action, &call.params, &key_id)?,
        AcsService::Ram => ram::serve(context, &call.action, &call.params)?,
        AcsService::Unknown => {
            return Err(AcsError::new(
                404,
                "InvalidVersion",
                "Specified parameter Version is not valid.",
            ));
        }
    };
    Ok(answer(value, request_id))
}

fn answer(mut value: Value, request_id: &str) -> Answer {
    if let Value::Object(fields) = &mut value {
        fields.insert("RequestId".to_owned(), Value::from(request_id));
    }
    let answer = Answer::text(200, "application/json;charset=utf-8", value.to_string());
    answer.with("x-acs-request-id", request_id)
}

/// The error for an action that this emulator does not implement.
pub(crate) fn unknown_action(action: &str) -> AcsError {
    AcsError::new(
        404,
        "InvalidAction.NotFound",
        &format!(
            "Specified api is not found, please check your url and method. This emulator has no {action}."
        ),
    )
}

/// Writes an error as an answer.
pub(crate) fn refuse(error: &AcsError, head: &Head, request_id: &str) -> Answer {
    let text = error.to_json(request_id, head.host_name()).to_string();
    let answer = Answer::text(error.status, "application/json;charset=utf-8", text)
        .with("x-acs-request-id", request_id);
    match error.retry_after {
        Some(delay) => answer.with("x-acs-retry-after", &delay.to_string()),
        None => answer,
    }
}
