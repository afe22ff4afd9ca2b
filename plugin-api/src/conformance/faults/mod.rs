//! Puts a proxy between a provider and its server that refuses requests, breaks connections, loses answers and delays
//! them: the rows of `build-image providers check --faults`. `proxy` is the proxy and `message` its HTTP, `script` decides
//! which requests are struck, `probe` runs the builds, and `judge` contains the verdicts.

mod judge;
mod message;
mod probe;
mod proxy;
mod script;

use self::judge::judge;
pub(super) use self::{
    judge::tagged,
    probe::{Disturbed, probe},
    proxy::{Proxies, is_address},
    script::Fault,
};
use super::{
    judge::Judgement,
    probe::Probe,
    rows::{Check, Remedy, check},
    table::Evidence,
};

/// Creates the row of a fault.
const fn row(
    fault: Fault,
    title: &'static str,
    judge: fn(&Evidence) -> Judgement,
    needs: &'static [Probe],
    remedy: Remedy,
) -> Check {
    check(fault.check(), title, judge, needs, remedy)
}

/// The rows.
pub(super) const CHECKS: [Check; Fault::ALL.len()] = [
    row(
        Fault::Throttled,
        "waits as long as `Retry-After` says when the server answers 429",
        |evidence| judge(evidence, Fault::Throttled),
        &[Probe::Fault(Fault::Throttled)],
        Remedy::new(
            "repeat the request after the pause that the answer asks for, with `context.wait`; after the last attempt return an error of kind `throttled`",
            "repeat the request after the pause that the answer asks for, with `wait`; after the last attempt answer with an error of kind `throttled`",
        ),
    ),
    row(
        Fault::Unavailable,
        "survives answers of status 5xx",
        |evidence| judge(evidence, Fault::Unavailable),
        &[Probe::Fault(Fault::Unavailable)],
        Remedy::both(
            "repeat the request with growing pauses; a request that creates something needs a client token, or a look whether it took effect",
        ),
    ),
    row(
        Fault::Reset,
        "survives connections that are reset",
        |evidence| judge(evidence, Fault::Reset),
        &[Probe::Fault(Fault::Reset)],
        Remedy::both(
            "repeat the request, or return an error of kind `network`; announce each thing before the request that creates it",
        ),
    ),
    row(
        Fault::Truncated,
        "notices answers that end in the middle",
        |evidence| judge(evidence, Fault::Truncated),
        &[Probe::Fault(Fault::Truncated)],
        Remedy::both(
            "compare the length of the answer with `Content-Length`, and treat a document that cannot be parsed as a lost answer",
        ),
    ),
    row(
        Fault::Lost,
        "creates nothing twice when an answer is lost",
        |evidence| judge(evidence, Fault::Lost),
        &[Probe::Fault(Fault::Lost)],
        Remedy::both(
            "send a client token that is the same in each attempt, or look for a mark of the run before the request is repeated; announce the thing before the first attempt",
        ),
    ),
    row(
        Fault::Slow,
        "waits for slow answers",
        |evidence| judge(evidence, Fault::Slow),
        &[Probe::Fault(Fault::Slow)],
        Remedy::both(
            "allow an answer at least some seconds; a time limit that is exceeded is a lost answer, not a refusal",
        ),
    ),
    row(
        Fault::Skewed,
        "survives a wrong clock of the server",
        |evidence| judge(evidence, Fault::Skewed),
        &[Probe::Fault(Fault::Skewed)],
        Remedy::both("do not compare the times of the server with the clock of this machine"),
    ),
    row(
        Fault::Expired,
        "signs in again when its credential expires, or fails with an error that says so",
        |evidence| judge(evidence, Fault::Expired),
        &[Probe::Fault(Fault::Expired)],
        Remedy::both(
            "on status 401 get a new token once and repeat the request; otherwise return an error of kind `auth`",
        ),
    ),
];
