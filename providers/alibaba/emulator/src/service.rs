//! Handles one request from hyper to the answer: selects the service, plans the faults, runs the service, and
//! writes the log line. The services do not depend on connections.

use std::sync::Arc;

use hyper::Response;
use hyper::body::Incoming;
use hyper::http::request::Parts;

use crate::acs::{self, AcsCall};
use crate::clock::{self, Millis};
use crate::config::Config;
use crate::control;
use crate::ecs::error::AcsError;
use crate::faults::{Faults, Plan};
use crate::http::{Answer, AnswerBody, Delivery, Head, RequestBody};
use crate::identity::metadata;
use crate::ids;
use crate::log::{Entry, Log};
use crate::oss;
use crate::oss::error::OssError;
use crate::oss::operation::Operation;
use crate::oss::route::OssCall;
use crate::oss::traffic;
use crate::state::Store;

/// The account that owns everything from the start.
pub(crate) const ACCOUNT_ID: &str = "1000000000000001";
/// The second account; it sees neither images nor buckets of the first.
pub(crate) const OTHER_ACCOUNT_ID: &str = "1000000000000002";

/// Pause that throttled clients are asked for, in milliseconds.
const THROTTLE_DELAY: u64 = 200;

/// The emulator without its listener.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) faults: Faults,
    pub(crate) log: Log,
    pub(crate) nonces: acs::Nonces,
    pub(crate) metadata: metadata::TokenKey,
}

/// The context of one call.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) store: &'a Store,
    pub(crate) plan: &'a Plan,
    /// The server's clock, which a fault may have shifted.
    pub(crate) now: Millis,
    /// The account of the caller.
    pub(crate) account: &'static str,
}

impl Context<'_> {
    /// The same call by the account of a key.
    pub(crate) fn of_key(&self, id: &str) -> Self {
        let is_other = self.config.other_accounts.iter().any(|account| account.id == id);
        Self { account: if is_other { OTHER_ACCOUNT_ID } else { ACCOUNT_ID }, ..*self }
    }
}

/// The connection has to be reset instead of answered.
#[derive(Debug, thiserror::Error)]
#[error("the connection is reset by a fault")]
pub(crate) struct Reset;

/// The called operation.
enum Call {
    Control,
    Metadata,
    Acs(AcsCall),
    Oss(OssCall),
}

/// An answer with its data for the log.
pub(crate) struct Outcome {
    pub(crate) answer: Answer,
    pub(crate) code: Option<String>,
}

impl Outcome {
    fn good(answer: Answer) -> Self {
        Self { answer, code: None }
    }
}

/// The current request, for the log.
struct Story {
    started: Millis,
    service: &'static str,
    operation: String,
    request_id: String,
    part_number: Option<u16>,
    dry_run: bool,
    bucket: Option<String>,
    key: Option<String>,
}

impl Story {
    fn tell(
        &self,
        log: &Log,
        body: &RequestBody,
        faults: &[&'static str],
        (status, code, sent): (u16, Option<&str>, u64),
    ) {
        log.write(&Entry {
            time: clock::iso(self.started),
            milliseconds: u64::try_from(clock::now() - self.started).unwrap_or_default(),
            service: self.service,
            operation: &self.operation,
            status,
            code,
            bytes_in: body.received(),
            bytes_out: sent,
            part_number: self.part_number,
            dry_run: self.dry_run,
            bucket: self.bucket.as_deref(),
            key: self.key.as_deref(),
            faults,
            request_id: &self.request_id,
        });
    }
}

/// Serves one request.
pub(crate) async fn respond(
    service: &Arc<Service>,
    parts: Parts,
    incoming: Incoming,
    loopback: bool,
) -> Result<Response<AnswerBody>, Reset> {
    let mut body = RequestBody::new(incoming);
    let Ok(head) = Head::read(&parts) else {
        let error = OssError::new(400, "InvalidURI", "The query of the request is not UTF-8.");
        return Ok(oss::refuse(&error, &Head::default(), &ids::oss_request())
            .into_response(Delivery::default()));
    };
    let call = match recognise(&head, &mut body, loopback).await {
        Ok(call) => call,
        Err(answer) => return Ok(answer.into_response(Delivery::default())),
    };
    let story = story(&head, &call);
    let plan = match call {
        Call::Control => Plan::default(),
        Call::Metadata | Call::Acs(_) | Call::Oss(_) => {
            service.faults.plan(&story.operation, story.part_number)
        }
    };
    if let Some(stall) = plan.stall {
        tokio::time::sleep(stall).await;
    }
    let log = |body: &RequestBody, reply| story.tell(&service.log, body, &plan.marks, reply);
    if plan.reset_before {
        log(&body, (0, Some("reset_before"), 0));
        return Err(Reset);
    }
    let mut throttles = plan.throttles.clone();
    if let Call::Oss(call) = &call {
        throttles.extend(traffic::pace(&head, call.operation));
    }
    body.pace(throttles.clone());
    let mut outcome = serve(service, &head, &call, &plan, &story, &mut body, loopback).await;
    body.drain().await;
    let status = outcome.answer.status;
    if plan.reset_after {
        log(&body, (0, Some("reset_after"), 0));
        return Err(Reset);
    }
    if plan.hide_checksum {
        outcome.answer.headers.remove("x-oss-hash-crc64ecma");
    }
    if let Some(hold) = plan.hold {
        tokio::time::sleep(hold).await;
    }
    let length = outcome.answer.length();
    if plan.truncate && length == 0 {
        log(&body, (0, Some("truncate_answer"), 0));
        return Err(Reset);
    }
    let keep = plan.truncate.then_some(length / 2);
    log(&body, (status, outcome.code.as_deref(), keep.unwrap_or(length)));
    let delivery = Delivery { keep, throttles, corrupt: plan.corrupt_answer };
    Ok(outcome.answer.into_response(delivery))
}

async fn recognise(head: &Head, body: &mut RequestBody, loopback: bool) -> Result<Call, Answer> {
    if control::is_meant(head, loopback) {
        return Ok(Call::Control);
    }
    if metadata::is_meant(head) {
        return Ok(Call::Metadata);
    }
    if acs::is_meant(head) {
        return acs::read(head, body)
            .await
            .map(Call::Acs)
            .map_err(|error| acs::refuse(&error, head, &ids::acs_request()));
    }
    oss::route::route(head)
        .map(Call::Oss)
        .map_err(|error| oss::refuse(&error, head, &ids::oss_request()))
}

fn story(head: &Head, call: &Call) -> Story {
    let mut story = Story {
        started: clock::now(),
        service: "emulator",
        operation: head.raw_path.clone(),
        request_id: ids::acs_request(),
        part_number: None,
        dry_run: false,
        bucket: None,
        key: None,
    };
    match call {
        Call::Control => {}
        Call::Metadata => story.service = "metadata",
        Call::Acs(call) => {
            story.service = call.service.name();
            story.operation.clone_from(&call.action);
            story.dry_run = call.params.flag("DryRun");
        }
        Call::Oss(call) => {
            story.service = "oss";
            story.operation = call.operation.name().to_owned();
            story.request_id = ids::oss_request();
            story.bucket.clone_from(&call.bucket);
            story.key.clone_from(&call.key);
            if matches!(call.operation, Operation::UploadPart | Operation::UploadPartCopy) {
                story.part_number = head.given("partNumber").and_then(|text| text.parse().ok());
            }
        }
    }
    story
}

async fn serve(
    service: &Arc<Service>,
    head: &Head,
    call: &Call,
    plan: &Plan,
    story: &Story,
    body: &mut RequestBody,
    loopback: bool,
) -> Outcome {
    let now = clock::now().saturating_add(plan.skew);
    let context =
        Context { config: &service.config, store: &service.store, plan, now, account: ACCOUNT_ID };
    let mut outcome = match call {
        Call::Control => {
            Outcome::good(control::serve(service, &context, head, body, loopback).await)
        }
        Call::Metadata => Outcome::good(match metadata_fault(plan) {
            Some(answer) => answer,
            None => metadata::serve(&context, &service.metadata, head),
        }),
        Call::Acs(call) => {
            let served = match acs_fault(plan) {
                Some(error) => Err(error),
                None => acs::serve(service, &context, head, call, &story.request_id).await,
            };
            match served {
                Ok(answer) => Outcome::good(answer),
                Err(error) => Outcome {
                    answer: acs::refuse(&error, head, &story.request_id),
                    code: Some(error.code),
                },
            }
        }
        Call::Oss(call) => {
            let served = match oss_fault(plan, call.operation) {
                Some(error) => Err(error),
                None => oss::serve(&context, head, call, body).await,
            };
            let outcome = match served {
                Ok(answer) => Outcome::good(answer),
                Err(error) => Outcome {
                    answer: oss::refuse(&error, head, &story.request_id),
                    code: Some(error.code),
                },
            };
            let Outcome { answer, code } = outcome;
            let answer = answer
                .with("server", "AliyunOSS")
                .with("x-oss-request-id", &story.request_id)
                .with("x-oss-server-time", &(clock::now() - story.started).to_string());
            Outcome { answer, code }
        }
    };
    outcome.answer = outcome.answer.with("date", &clock::rfc1123(now));
    outcome
}

fn metadata_fault(plan: &Plan) -> Option<Answer> {
    let status = plan.status.as_ref()?;
    Some(Answer::text(status.status, "text/plain; charset=utf-8", status.code.clone()))
}

fn acs_fault(plan: &Plan) -> Option<AcsError> {
    if plan.throttle {
        let message = "Request was denied due to user flow control.";
        let mut error = AcsError::new(400, "Throttling.User", message);
        error.retry_after = Some(THROTTLE_DELAY);
        return Some(error);
    }
    if plan.expire_token {
        return Some(AcsError::expired());
    }
    let status = plan.status.as_ref()?;
    Some(AcsError::new(status.status, &status.code, "This answer is a fault on order."))
}

fn oss_fault(plan: &Plan, operation: Operation) -> Option<OssError> {
    if plan.throttle {
        let uploads = matches!(operation, Operation::UploadPart | Operation::PutObject);
        let code = if uploads { "UploadTrafficRateLimitExceeded" } else { "TotalQpsLimitExceeded" };
        let mut error = OssError::new(503, code, "Please reduce your request rate.");
        error.delay = Some(THROTTLE_DELAY);
        return Some(error);
    }
    if plan.expire_token {
        return Some(OssError::expired());
    }
    let status = plan.status.as_ref()?;
    Some(OssError::new(status.status, &status.code, "This answer is a fault on order."))
}
