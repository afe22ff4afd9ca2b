//! Decides which requests a fault strikes, and records what came through the proxy.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::message::Head;
use crate::conformance::probe::lab::TAG;

/// A fault between a provider and its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::conformance) enum Fault {
    /// Status 429 with `Retry-After`; the server does not see the request.
    Throttled,
    /// Status 503; the server does not see the request.
    Unavailable,
    /// The connection is reset; the server does not see the request.
    Reset,
    /// The server handles the request; its answer ends in the middle.
    Truncated,
    /// The server handles the request; the connection is reset instead of its answer.
    Lost,
    /// The answer comes late, and in pieces.
    Slow,
    /// The `Date` of every answer is wrong.
    Skewed,
    /// Status 401 for every request with the credential that was used at that time.
    Expired,
}

/// Value of `Retry-After`.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A request this much earlier than the answer permitted is not noticed: clocks and schedulers are coarse.
const TOLERANCE: Duration = Duration::from_millis(100);

impl Fault {
    pub(in crate::conformance) const ALL: [Self; 8] = [
        Self::Throttled,
        Self::Unavailable,
        Self::Reset,
        Self::Truncated,
        Self::Lost,
        Self::Slow,
        Self::Skewed,
        Self::Expired,
    ];

    /// Returns the id of the check.
    pub(in crate::conformance) const fn check(self) -> &'static str {
        match self {
            Self::Throttled => "fault-throttled",
            Self::Unavailable => "fault-unavailable",
            Self::Reset => "fault-reset",
            Self::Truncated => "fault-truncated",
            Self::Lost => "fault-lost",
            Self::Slow => "fault-slow",
            Self::Skewed => "fault-skew",
            Self::Expired => "fault-expired",
        }
    }
}

/// The requests that are struck.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The first request of each kind.
    Each,
    /// The first request of this kind.
    First(String),
    /// Every request.
    All,
    /// From the request of this number on, counted from 0, those with the credential of the first one.
    From(usize),
}

/// What the proxy does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Pass,
    Strike(Fault),
}

#[derive(Debug, Default)]
struct State {
    plan: Option<(Fault, Target)>,
    /// Kinds of requests in the order of their first one, with the number of requests.
    kinds: Vec<(String, usize)>,
    requests: usize,
    struck: usize,
    credential: Option<String>,
    /// Until when requests must not be repeated.
    waits: BTreeMap<String, Instant>,
    early: Vec<String>,
    broken: Vec<String>,
    tagged: bool,
}

/// Plan and record, shared by the connections of all proxies.
#[derive(Debug, Default)]
pub(super) struct Script(Mutex<State>);

/// What came through the proxy since the plan was made.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) kinds: Vec<(String, usize)>,
    pub(super) requests: usize,
    pub(super) struck: usize,
    /// Requests that were repeated before `Retry-After` had passed.
    pub(super) early: Vec<String>,
    /// Requests that the server did not answer.
    pub(super) broken: Vec<String>,
    /// Whether a request contained the tag of the suite's images.
    pub(super) tagged: bool,
}

impl Script {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a new record with this plan.
    pub(super) fn begin(&self, plan: Option<(Fault, Target)>) {
        *self.state() = State { plan, ..State::default() };
    }

    /// Ends the faults and returns the record.
    pub(super) fn end(&self) -> Record {
        let state = std::mem::take(&mut *self.state());
        let State { kinds, requests, struck, early, broken, tagged, .. } = state;
        Record { kinds, requests, struck, early, broken, tagged }
    }

    /// Records that the server gave no answer.
    pub(super) fn broken(&self, text: String) {
        self.state().broken.push(text);
    }

    /// Decides about a request with a short body.
    pub(super) fn decide(&self, head: &Head, kind: &str, body: &str) -> Action {
        let mut state = self.state();
        state.tagged |= body.contains(TAG.1) || head.contains(TAG.1);
        let number = state.requests;
        state.requests += 1;
        let is_first = match state.kinds.iter_mut().find(|(known, _)| known == kind) {
            Some((_, count)) => {
                *count += 1;
                false
            }
            None => {
                state.kinds.push((kind.to_owned(), 1));
                true
            }
        };
        // Two requests to one address may be different ones.
        let line = format!("{kind} {}", head.first);
        if let Some(until) = state.waits.remove(&line) {
            let missing = until.saturating_duration_since(Instant::now());
            if missing > TOLERANCE {
                state.early.push(format!("`{kind}` {} ms too early", missing.as_millis()));
            }
        }
        let Some((fault, target)) = state.plan.clone() else { return Action::Pass };
        let strikes = match &target {
            Target::Each => is_first,
            Target::First(wanted) => is_first && wanted == kind,
            Target::All => true,
            Target::From(from) => number >= *from && state.is_expired(head),
        };
        if !strikes {
            return Action::Pass;
        }
        state.struck += 1;
        if fault == Fault::Throttled {
            state.waits.insert(line, Instant::now() + RETRY_AFTER);
        }
        Action::Strike(fault)
    }
}

impl State {
    /// Returns whether the request has the credential that was used first; the first request determines it.
    fn is_expired(&mut self, head: &Head) -> bool {
        let Some(credential) = head.get("authorization").or(head.ending_with(&["-token"])) else {
            return false;
        };
        self.credential.get_or_insert_with(|| credential.to_owned()) == credential
    }
}

/// Names the kind of a request: method, path without identifiers, names of the parameters, and the action of an interface
/// that has one address for everything.
pub(super) fn kind(head: &Head, form: &str) -> String {
    let (method, target) = head.request();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let segments = path.split('/').map(|segment| {
        let is_name = !segment.contains(|letter: char| letter.is_ascii_digit() || letter == '%');
        if is_name { segment } else { "*" }
    });
    let mut kind = format!("{method} {}", segments.collect::<Vec<_>>().join("/"));
    let action = |text: &str| {
        let mut pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == "Action").map(|(_, value)| value.to_owned())
    };
    let named = head.ending_with(&["-action", "-target"]).map(str::to_owned);
    if let Some(action) = named.or_else(|| action(query)).or_else(|| action(form)) {
        return format!("{kind} {action}");
    }
    let mut names: Vec<&str> =
        query.split('&').map(|pair| pair.split('=').next().unwrap_or(pair)).collect();
    // Parameters of signatures are in every request.
    names.retain(|name| !name.is_empty() && !name.to_ascii_lowercase().starts_with("x-"));
    names.sort_unstable();
    if !names.is_empty() {
        kind.push_str(&format!(" ?{}", names.join(",")));
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        Head::read(&mut format!("{text}\r\n\r\n").as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn kinds_of_requests_have_no_identifiers() {
        for (request, form, expected) in [
            ("GET /v2/images/7f3e HTTP/1.1", "", "GET /*/images/*"),
            (
                "PUT /demo/a1?partNumber=3&uploadId=7 HTTP/1.1",
                "",
                "PUT /demo/* ?partNumber,uploadId",
            ),
            ("POST / HTTP/1.1\r\nx-acs-action: ImportImage", "", "POST / ImportImage"),
            ("POST / HTTP/1.1", "Version=1&Action=CopyImage", "POST / CopyImage"),
            ("GET /?Action=List&X-Amz-Date=1 HTTP/1.1", "", "GET / List"),
            ("GET /b?X-Amz-Date=1&uploads HTTP/1.1", "", "GET /b ?uploads"),
        ] {
            assert_eq!(kind(&head(request), form), expected, "{request}");
        }
    }

    #[test]
    fn a_target_decides_which_requests_are_struck() {
        let requests = ["GET /a HTTP/1.1", "PUT /a HTTP/1.1", "GET /a HTTP/1.1", "PUT /a HTTP/1.1"];
        let credentials = ["one", "one", "two", "one"];
        for (target, expected) in [
            (Target::Each, [true, true, false, false]),
            (Target::First("PUT /a".to_owned()), [false, true, false, false]),
            (Target::All, [true; 4]),
            (Target::From(1), [false, true, false, true]),
        ] {
            let script = Script::default();
            script.begin(Some((Fault::Reset, target.clone())));
            let struck = requests.iter().zip(credentials).map(|(request, credential)| {
                let head = head(&format!("{request}\r\nAuthorization: {credential}"));
                script.decide(&head, &kind(&head, ""), "") != Action::Pass
            });
            assert_eq!(struck.collect::<Vec<_>>(), expected, "{target:?}");
            let record = script.end();
            let count = expected.iter().filter(|struck| **struck).count();
            assert_eq!((record.requests, record.struck), (4, count));
            assert_eq!(record.kinds, [("GET /a".to_owned(), 2), ("PUT /a".to_owned(), 2)]);
            assert_eq!(script.decide(&head(requests[0]), "x", ""), Action::Pass, "it has ended");
        }
    }

    #[test]
    fn a_request_that_is_repeated_too_early_is_recorded() {
        let script = Script::default();
        script.begin(Some((Fault::Throttled, Target::Each)));
        let (one, other) = (head("PUT /a HTTP/1.1"), head("PUT /b HTTP/1.1"));
        let action = head("PUT /a HTTP/1.1\r\nx-action: Other");
        for head in [&one, &other, &action, &one] {
            script.decide(head, &kind(head, ""), "");
        }
        let early = script.end().early;
        assert!(early.len() == 1 && early[0].starts_with("`PUT /a` "), "{early:?}");
    }
}
