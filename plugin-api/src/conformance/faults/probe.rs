//! Runs builds while a proxy disturbs the requests of the provider.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    proxy::Proxies,
    script::{Fault, Record, Target},
};
use crate::{
    Resource, Steps,
    conformance::{
        evidence::{Built, Call, Reach},
        host::ProbeHost,
        probe::{build, lab::Lab, sight::Sight},
    },
    document::{Build, DiscardReason, DiscardRequest, Discarded, Severity},
};

/// Maximum number of kinds of requests that are struck one by one; each needs a build.
const MOST: usize = 12;
/// Methods that change nothing.
const READING: [&str; 3] = ["GET ", "HEAD ", "OPTIONS "];

/// Observations of a `fault` probe.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::conformance) struct Disturbed {
    pub(super) reach: Reach,
    /// The settings that lead to the proxy.
    pub(super) settings: Vec<String>,
    /// A build without a fault.
    pub(super) control: Trial,
    /// Builds with the fault.
    pub(super) trials: Vec<Trial>,
}

/// A build through the proxy.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Trial {
    /// The kind of request that was struck; empty = several.
    pub(super) at: String,
    pub(super) requests: usize,
    pub(super) struck: usize,
    /// How the build failed.
    pub(super) failure: Option<Failed>,
    /// Number of images that were registered.
    pub(super) images: usize,
    /// What existed after a success and not before.
    pub(super) made: Vec<String>,
    /// What existed after everything had been discarded and not before.
    pub(super) left: Vec<String>,
    /// The number of objects among it: one object may be seen in several ways.
    pub(super) left_count: usize,
    /// Resources that `discard` listed as remaining.
    pub(super) remaining: Vec<String>,
    /// Requests that were repeated before `Retry-After` had passed.
    pub(super) early: Vec<String>,
    /// Requests that the server did not answer.
    pub(super) broken: Vec<String>,
    /// Whether a request contained the tag of the suite's images.
    pub(super) tagged: bool,
}

/// Why a build failed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Failed {
    /// Word of the kind of the error; empty for a finding of `check`.
    pub(super) kind: String,
    pub(super) text: String,
}

impl Failed {
    fn of(call: &Call) -> Option<Self> {
        let kind = call.failure.as_ref()?.kind.clone();
        Some(Self { kind, text: call.ending() })
    }
}

/// Runs a build without the fault, and builds with it: one in which it strikes several requests, or one for each kind of
/// request.
pub(in crate::conformance) fn probe(lab: &Lab<'_>, proxies: &Proxies, fault: Fault) -> Disturbed {
    let settings = proxies.settings.iter().map(|(key, _)| key.clone()).collect();
    let mut seen = Disturbed { reach: lab.reach(), settings, ..Disturbed::default() };
    if seen.reach != Reach::Whole {
        return seen;
    }
    let workshop = Workshop { lab, proxies, fault };
    let (control, record) = workshop.trial(0, None);
    let (failed, requests) = (control.failure.is_some(), control.requests);
    seen.control = control;
    if failed || requests == 0 {
        return seen;
    }
    let target = match fault {
        Fault::Skewed => Some(Target::All),
        Fault::Expired => Some(Target::From(requests / 2)),
        Fault::Throttled | Fault::Unavailable | Fault::Slow => Some(Target::Each),
        Fault::Reset | Fault::Truncated | Fault::Lost => None,
    };
    let several = target.is_some();
    seen.trials.extend(target.map(|target| workshop.trial(1, Some(target)).0));
    // A build that failed shows nothing about the requests that would have followed.
    let failed = seen.trials.iter().any(|trial| trial.failure.is_some());
    let singly = !several || (failed && !matches!(fault, Fault::Skewed | Fault::Expired));
    if singly {
        for (number, kind) in kinds(record).into_iter().enumerate() {
            let (trial, _) = workshop.trial(number + 2, Some(Target::First(kind)));
            seen.trials.push(trial);
        }
    }
    seen
}

/// Returns kinds of requests, those first that change something and are rare: they create things.
fn kinds(record: Record) -> Vec<String> {
    let mut kinds = record.kinds;
    let reads = |kind: &str| READING.iter().any(|method| kind.starts_with(method));
    kinds.sort_by_key(|(kind, count)| (reads(kind), *count));
    kinds.into_iter().take(MOST).map(|(kind, _)| kind).collect()
}

struct Workshop<'a> {
    lab: &'a Lab<'a>,
    proxies: &'a Proxies,
    fault: Fault,
}

impl Workshop<'_> {
    /// Runs a build and removes everything again.
    fn trial(&self, number: usize, target: Option<Target>) -> (Trial, Record) {
        let (lab, name) = (self.lab, format!("{}-{number}", self.fault.check()));
        let host = lab.host();
        let build = lab.build(&name);
        let mut trial = Trial::default();
        if let Some(Target::First(kind)) = &target {
            trial.at.clone_from(kind);
        }
        let before = self.look(&name, &build);
        self.proxies.begin(target.map(|target| (self.fault, target)));
        let (call, steps) = lab.create(&host, lab.settings());
        trial.failure = Failed::of(&call);
        if let Some(steps) = &steps {
            (trial.failure, trial.images) = run(lab, &host, steps.as_ref(), &build);
        }
        let record = self.proxies.end();
        (trial.requests, trial.struck) = (record.requests, record.struck);
        (trial.early, trial.broken) = (record.early.clone(), record.broken.clone());
        trial.tagged = record.tagged;
        let Some(steps) = steps else { return (trial, record) };
        if trial.failure.is_none() {
            self.discard(&host, steps.as_ref(), &build, DiscardReason::Done);
            trial.made = self.look(&name, &build).more_than(&before);
        }
        // A request whose answer was lost may take effect after the first time.
        for _ in 0..2 {
            trial.remaining = self.discard(&host, steps.as_ref(), &build, DiscardReason::Failed);
            build::listen(&host);
        }
        lab.end(&host, steps);
        let after = self.look(&name, &build);
        (trial.left, trial.left_count) = (after.more_than(&before), after.count_more_than(&before));
        (trial, record)
    }

    /// Removes resources; returns those that remain.
    fn discard(
        &self,
        host: &Arc<ProbeHost>,
        steps: &dyn Steps,
        build: &Build,
        reason: DiscardReason,
    ) -> Vec<String> {
        let is_done = reason == DiscardReason::Done;
        let resources: Vec<Resource> = build::resources(host)
            .into_iter()
            .filter(|resource| !is_done || !resource.deliverable)
            .collect();
        if resources.is_empty() {
            return Vec::new();
        }
        let request = DiscardRequest::new(reason, resources).run_id(&build.run_id);
        let (call, _) = self.lab.call(host, "discard", || steps.discard(&request));
        if call.failure.is_some() {
            return vec![call.ending()];
        }
        let answer: Discarded = serde_json::from_value(call.answer).unwrap_or_default();
        answer.remaining.iter().map(|left| left.resource.label()).collect()
    }

    /// Observes the cloud without a fault.
    fn look(&self, name: &str, build: &Build) -> Sight {
        Sight::of(self.lab, name).with_inventory(self.lab, build)
    }
}

/// Runs the steps as a build does: a problem that `check` finds ends it.
fn run(
    lab: &Lab<'_>,
    host: &Arc<ProbeHost>,
    steps: &dyn Steps,
    build: &Build,
) -> (Option<Failed>, usize) {
    let request = lab.check_of(build.clone(), true);
    let (call, report) = lab.call(host, "check", || steps.check(&request));
    let Some(report) = report else { return (Failed::of(&call), 0) };
    let found = report.findings.into_iter().find(|found| found.severity == Severity::Error);
    if let Some(found) = found {
        let text = format!("`check` found: {}: {}", found.subject, found.message);
        return (Some(Failed { kind: String::new(), text }), 0);
    }
    let mut built = Built { reach: Reach::Whole, ..Built::default() };
    build::make(lab, host, steps, build, &mut built, false);
    (built.calls.iter().find_map(Failed::of), built.images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_requests_that_change_something_are_struck_first() {
        let kind = |name: &str, count| (name.to_owned(), count);
        let mut all = vec![kind("GET /a", 1), kind("PUT /part", 9), kind("POST /image", 1)];
        let record = |kinds| Record { kinds, ..Record::default() };
        assert_eq!(kinds(record(all.clone())), ["POST /image", "PUT /part", "GET /a"]);
        all.extend((0..MOST).map(|number| kind(&format!("PUT /{number}"), 1)));
        assert_eq!(kinds(record(all)).len(), MOST);
    }
}
