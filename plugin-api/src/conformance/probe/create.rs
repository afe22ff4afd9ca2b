//! Creates instances from valid, invalid and unknown settings, and sends documents of the same kinds.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::lab::Lab;
use crate::{
    ErrorKind, Host, SettingKind, Step,
    conformance::{
        evidence::{Call, Created, Cycled, Failure, Later, Malformed},
        host::ProbeHost,
        subject::RawSteps,
        surroundings::Footprint,
    },
};

/// Maximum number of settings that are tried with a value of another shape.
const MOST_JUNK: usize = 100;
/// Number of cycles; fewer are enough when they are slow.
const CYCLES: u32 = 1_000;
const WARM_UP: u32 = 20;
const TIME_BUDGET: Duration = Duration::from_secs(5);
/// Number of additional threads or files that is certainly a leak.
const LEAK: usize = 16;

pub(super) fn probe(lab: &Lab<'_>) -> Created {
    let host = lab.host();
    let bare = lab.create(&host, lab.defaults());
    let (plain, steps) = lab.create(&host, lab.settings());
    let check = steps.map(|steps| {
        let request = lab.check_request("create", false);
        let (call, _) = lab.call(&host, "check", || steps.check(&request));
        lab.end(&host, steps);
        call
    });
    let required = lab.description().settings.iter().filter(|row| row.required);
    let required = required.map(|row| row.key.clone()).collect();
    let reports = host.reports();
    Created { bare: bare.0, required, plain, check, reports }
}

/// Tries every setting once with a value that no host would send.
pub(super) fn shapes(lab: &Lab<'_>) -> Vec<(String, Call)> {
    let host = lab.host();
    let rows = lab.description().settings.iter().filter(|row| !row.secret).take(MOST_JUNK);
    rows.map(|row| {
        let value = match row.kind {
            SettingKind::Map => json!("a text, no map"),
            _ => json!({"an object": ["where none is"]}),
        };
        let mut settings = lab.settings();
        settings.insert(row.key.clone(), value);
        (row.key.clone(), lab.create(&host, settings).0)
    })
    .collect()
}

fn raw_instance(lab: &Lab<'_>, host: &Arc<ProbeHost>) -> Option<Box<dyn RawSteps>> {
    let settings = Value::from_iter(lab.settings()).to_string();
    lab.begin("create");
    let lent: Arc<dyn Host> = Arc::clone(host) as Arc<dyn Host>;
    lab.subject.create_raw(lent, &settings)?.ok()
}

fn raw_call(lab: &Lab<'_>, raw: &dyn RawSteps, step: &str, request: &str) -> (Call, bool) {
    lab.begin(&with_document(step, request));
    let result = raw.call(step, request);
    let has_known_code =
        result.as_ref().err().is_none_or(|(code, error)| error.kind.code() == code);
    let (answer, failure) = match result {
        Ok(text) => (Value::from(text.len()), None),
        Err((_, error)) => (Value::Null, Some(Failure::from(&error))),
    };
    (Call { step: step.to_owned(), milliseconds: 0, answer, failure }, has_known_code)
}

/// Formats the name of a step for the message that it did not return.
fn with_document(step: &str, document: &str) -> String {
    let excerpt: String = document.chars().take(60).collect();
    format!("{step}` of the document `{excerpt}")
}

/// Sends a setting and members that this version does not have.
pub(super) fn later(lab: &Lab<'_>) -> Later {
    let host = lab.host();
    let mut settings = lab.settings();
    settings.insert("A_SETTING_OF_A_LATER_VERSION".to_owned(), json!({"a": [1]}));
    let (setting, _) = lab.create(&host, settings);
    let raw = raw_instance(lab, &host);
    let request = raw.as_ref().map(|raw| later_request(lab, raw.as_ref()));
    Later { setting, request }
}

/// Calls `check` without network, with members that this version does not have.
fn later_request(lab: &Lab<'_>, raw: &dyn RawSteps) -> Call {
    let request = serde_json::to_value(lab.check_request("create", false)).unwrap_or_default();
    let mut request = request;
    request["later"] = json!({"a": 1});
    request["build"]["later"] = json!([null]);
    raw_call(lab, raw, "check", &request.to_string()).0
}

/// Sends malformed documents. Only documents that cannot be read as a request with defaults.
pub(super) fn malformed(lab: &Lab<'_>) -> Malformed {
    let host = lab.host();
    let raw = raw_instance(lab, &host);
    let mut calls = Vec::new();
    lab.begin(&with_document("create", "{"));
    let lent: Arc<dyn Host> = Arc::clone(&host) as Arc<dyn Host>;
    let any = lab.subject.takes_any_text();
    if any && let Some(made) = lab.subject.create_raw(lent, "{") {
        let failure = made.as_ref().err().map(Failure::from);
        let has_known_code = failure.as_ref().is_none_or(|failure| is_known_code(&failure.kind));
        calls
            .push((Call { step: "create".to_owned(), failure, ..Call::default() }, has_known_code));
    }
    for step in Step::ALL {
        for document in ["", "{", "[1, 2]", "{\"build\": 7}"] {
            if !any && serde_json::from_str::<Value>(document).is_err() {
                continue;
            }
            // For a request without a build, this is a member of a later version.
            let builds = !step.is_optional() && *step != Step::Discard;
            if !builds && document.starts_with("{\"") {
                continue;
            }
            calls.extend(raw.as_deref().map(|raw| raw_call(lab, raw, step.name(), document)));
        }
    }
    Malformed { calls, lenient: !any }
}

fn is_known_code(code: &str) -> bool {
    ErrorKind::from_code(code).code() == code
}

pub(super) fn cycles(lab: &Lab<'_>) -> Cycled {
    let host = lab.host();
    let cycle = || {
        let (_, steps) = lab.create(&host, lab.settings());
        if let Some(steps) = steps {
            lab.end(&host, steps);
        }
    };
    (0..WARM_UP).for_each(|_| cycle());
    let before = Footprint::now();
    let end = Instant::now() + TIME_BUDGET;
    let mut cycles = 0;
    while cycles < CYCLES && Instant::now() < end {
        cycle();
        cycles += 1;
        let now = Footprint::now();
        if now.threads > before.threads + LEAK || now.files > before.files + LEAK {
            break;
        }
    }
    Cycled { cycles, growth: before.growth(before.settled()) }
}
