//! Runs a whole build step by step, removes it, and runs two builds concurrently.

use std::{
    path::Path,
    sync::{Arc, Barrier},
    time::Duration,
};

use super::{lab::Lab, sight::Sight};
use crate::{
    Resource, Steps,
    conformance::{
        evidence::{Built, Call, Concurrent, Reach},
        host::ProbeHost,
    },
    document::{
        Build, DiscardReason, DiscardRequest, DiskRequest, RegisterRequest, Severity, UploadRequest,
    },
};

/// Name of the build.
const NAME: &str = "build";
/// How long a probe waits for calls of the host that must not happen.
const LATE: Duration = Duration::from_millis(150);

pub(super) fn probe(lab: &Lab<'_>) -> Built {
    let host = lab.host();
    let mut built = Built { reach: lab.reach(), ..Built::default() };
    if matches!(built.reach, Reach::Dry(_)) {
        return built;
    }
    let (call, steps) = lab.create(&host, lab.settings());
    built.calls.push(call);
    let Some(steps) = steps else { return built };
    let build = lab.build(NAME);
    build.image_name.clone_into(&mut built.image_name);
    let nothing = Sight::of(lab, NAME);
    walk(lab, &host, steps.as_ref(), &build, &mut built);
    let sight = Sight::of(lab, NAME);
    built.listed = sight.more_than(&nothing);
    let resources = resources(&host);
    if !resources.is_empty() {
        for _ in 0..2 {
            let (call, _) = discard(lab, &host, steps.as_ref(), &build, &resources);
            built.discards.push(call);
        }
    }
    lab.end(&host, steps);
    listen(&host);
    built.left = files(&lab.job.directory.join(format!("images-{NAME}")));
    built.reports = host.reports();
    built
}

/// Runs all steps up to the registration, as far as they succeed.
pub(in crate::conformance) fn walk(
    lab: &Lab<'_>,
    host: &Arc<ProbeHost>,
    steps: &dyn Steps,
    build: &Build,
    built: &mut Built,
) -> Option<()> {
    let request = lab.check_of(build.clone(), built.reach == Reach::Whole && lab.job.cloud);
    let (call, report) = lab.call(host, "check", || steps.check(&request));
    built.calls.push(call);
    let errors = report?.findings.into_iter().filter(|found| found.severity == Severity::Error);
    let refused = errors.map(|found| format!("{}: {}", found.subject, found.message));
    built.refused.extend(refused.filter(|text| !lab.is_about_a_mark(text)));
    make(lab, host, steps, build, built, true)
}

/// Runs the steps that create something, with a pause after each for calls that must not happen.
pub(in crate::conformance) fn make(
    lab: &Lab<'_>,
    host: &Arc<ProbeHost>,
    steps: &dyn Steps,
    build: &Build,
    built: &mut Built,
    listens: bool,
) -> Option<()> {
    let spec = lab.description().disk.spec.clone();
    let request = DiskRequest { build: build.clone(), spec, ..DiskRequest::default() };
    let (call, disk) = lab.call(host, "create_disk", || steps.create_disk(&request));
    built.calls.push(call);
    let request = UploadRequest { build: build.clone(), disk: disk?, ..UploadRequest::default() };
    let (call, uploaded) = lab.call(host, "upload", || steps.upload(&request));
    built.calls.push(call);
    if listens {
        listen(host);
    }
    if uploaded.is_none() && built.reach != Reach::Stub {
        return None;
    }
    let uploaded = uploaded.unwrap_or_default();
    let request = RegisterRequest { build: build.clone(), uploaded, ..RegisterRequest::default() };
    let (call, registered) = lab.call(host, "register", || steps.register(&request));
    built.calls.push(call);
    if listens {
        listen(host);
    }
    built.images = registered?.images.len();
    Some(())
}

/// Returns resources that were announced and not reported as removed, newest first.
pub(in crate::conformance) fn resources(host: &ProbeHost) -> Vec<Resource> {
    let events = host.reports().events.into_iter().map(|(_, event)| event);
    let mut open = crate::testing::open_resources(events);
    open.reverse();
    open
}

pub(in crate::conformance) fn discard(
    lab: &Lab<'_>,
    host: &ProbeHost,
    steps: &dyn Steps,
    build: &Build,
    resources: &[Resource],
) -> (Call, Option<crate::document::Discarded>) {
    let request = DiscardRequest {
        run_id: build.run_id.clone(),
        reason: DiscardReason::Failed,
        resources: resources.to_vec(),
        ..DiscardRequest::default()
    };
    lab.call(host, "discard", || steps.discard(&request))
}

/// Waits for calls that must not happen.
pub(in crate::conformance) fn listen(host: &ProbeHost) {
    host.pause(LATE);
}

pub(super) fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Runs two instances concurrently, each in a separate thread with a separate host.
pub(super) fn concurrent(lab: &Lab<'_>) -> Concurrent {
    let names = ["one", "two"];
    let together = Barrier::new(names.len());
    let together = &together;
    let failed = std::thread::scope(|scope| {
        let threads = names.map(|name| scope.spawn(move || alone(lab, name, together)));
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    Concurrent { instances: names.len(), failed }
}

fn alone(lab: &Lab<'_>, name: &'static str, together: &Barrier) -> Vec<Call> {
    let host = lab.host();
    let (call, steps) = lab.create(&host, lab.settings());
    let mut calls = vec![call];
    if let Some(steps) = &steps {
        // Only one build at a time uses a cloud: names and quotas may conflict there.
        if lab.reach() == Reach::Whole && !lab.job.cloud {
            let mut built = Built::default();
            walk(lab, &host, steps.as_ref(), &lab.build(name), &mut built);
            calls.append(&mut built.calls);
        } else {
            for _ in 0..20 {
                let request = lab.check_request(name, false);
                calls.push(lab.call(&host, "check", || steps.check(&request)).0);
            }
        }
    }
    // Neither removes its image before both are made.
    together.wait();
    if let Some(steps) = steps {
        let resources = resources(&host);
        if !resources.is_empty() {
            calls.push(discard(lab, &host, steps.as_ref(), &lab.build(name), &resources).0);
        }
        lab.end(&host, steps);
    }
    calls.retain(|call| call.failure.is_some());
    calls
}
