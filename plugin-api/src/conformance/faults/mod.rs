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
use super::table::{Check, check};

/// The rows.
pub(super) const CHECKS: [Check; Fault::ALL.len()] = [
    check(
        Fault::Throttled.check(),
        "waits as long as `Retry-After` says when the server answers 429",
        |evidence| judge(evidence, Fault::Throttled),
        "repeat the request after the pause that the answer asks for, with `context.wait`; after the last attempt return an error of kind `throttled`",
    ),
    check(
        Fault::Unavailable.check(),
        "survives answers of status 5xx",
        |evidence| judge(evidence, Fault::Unavailable),
        "repeat the request with growing pauses; a request that creates something needs a client token, or a look whether it took effect",
    ),
    check(
        Fault::Reset.check(),
        "survives connections that are reset",
        |evidence| judge(evidence, Fault::Reset),
        "repeat the request, or return an error of kind `network`; announce each thing before the request that creates it",
    ),
    check(
        Fault::Truncated.check(),
        "notices answers that end in the middle",
        |evidence| judge(evidence, Fault::Truncated),
        "compare the length of the answer with `Content-Length`, and treat a document that cannot be parsed as a lost answer",
    ),
    check(
        Fault::Lost.check(),
        "creates nothing twice when an answer is lost",
        |evidence| judge(evidence, Fault::Lost),
        "send a client token that is the same in each attempt, or look for a mark of the run before the request is repeated; announce the thing before the first attempt",
    ),
    check(
        Fault::Slow.check(),
        "waits for slow answers",
        |evidence| judge(evidence, Fault::Slow),
        "allow an answer at least some seconds; a time limit that is exceeded is a lost answer, not a refusal",
    ),
    check(
        Fault::Skewed.check(),
        "survives a wrong clock of the server",
        |evidence| judge(evidence, Fault::Skewed),
        "do not compare the times of the server with the clock of this machine",
    ),
    check(
        Fault::Expired.check(),
        "signs in again when its credential expires, or fails with an error that says so",
        |evidence| judge(evidence, Fault::Expired),
        "on status 401 get a new token once and repeat the request; otherwise return an error of kind `auth`",
    ),
];
