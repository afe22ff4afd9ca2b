//! Asks steps to stop: before they begin, and while they run.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use super::{build, lab::Lab, sight::Sight};
use crate::{
    Disk, Result, Steps,
    conformance::{
        evidence::{Call, Cancelled, Reach, Stopped},
        host::{ProbeHost, Trigger},
    },
    document::{DiskRequest, RegisterRequest, UploadRequest, Uploaded},
};

/// Names of the builds.
const BEFORE: &str = "cancel-before";
const DURING: &str = "cancel-during";
/// How long the probe waits for a step that was asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(6);

pub(super) fn probe(lab: &Lab<'_>) -> Cancelled {
    let mut seen = Cancelled { reach: lab.reach(), ..Cancelled::default() };
    if seen.reach == Reach::Whole {
        for (name, act) in [(BEFORE, before as fn(&Lab<'_>, &mut Cancelled)), (DURING, during)] {
            let nothing = Sight::of(lab, name);
            act(lab, &mut seen);
            seen.left.extend(Sight::of(lab, name).more_than(&nothing));
        }
    }
    seen
}

type Instance = (Arc<ProbeHost>, Arc<dyn Steps>, Disk);

/// Creates an instance and its disk.
fn instance(lab: &Lab<'_>, name: &str) -> Option<Instance> {
    let host = lab.host();
    let steps: Arc<dyn Steps> = Arc::from(lab.create(&host, lab.settings()).1?);
    let spec = lab.description().disk.spec.clone();
    let request = DiskRequest { build: lab.build(name), spec, ..DiskRequest::default() };
    let disk = lab.call(&host, "create_disk", || steps.create_disk(&request)).1?;
    Some((host, steps, disk))
}

/// Calls every step once, after the stop.
fn before(lab: &Lab<'_>, seen: &mut Cancelled) {
    let name = BEFORE;
    let Some((host, steps, disk)) = instance(lab, name) else { return };
    let nothing = Sight::of(lab, name);
    host.cancel();
    let check = lab.check_request(name, lab.job.cloud);
    let upload = UploadRequest { build: lab.build(name), disk, ..UploadRequest::default() };
    let calls: [(&'static str, Work); 2] = [
        ("check", Box::new(move |steps| steps.check(&check).map(drop))),
        ("upload", Box::new(move |steps| steps.upload(&upload).map(drop))),
    ];
    for (step, work) in calls {
        let mut stopped = attempt(lab, &host, &steps, step, work);
        stopped.before = true;
        stopped.unread = true;
        let stuck = stopped.stuck;
        seen.stopped.push(stopped);
        if stuck {
            return;
        }
    }
    // Also resources that were not announced.
    seen.begun.extend(host.reports().begun);
    if seen.begun.is_empty() && !lab.is_subprocess() {
        seen.begun.extend(Sight::of(lab, name).more_than(&nothing));
    }
    tidy(lab, &host, steps, name);
}

/// Stops the upload at its first read of the disk, and the registration at its first call of the host.
fn during(lab: &Lab<'_>, seen: &mut Cancelled) {
    let name = DURING;
    let Some((host, steps, disk)) = instance(lab, name) else { return };
    host.cancel_on(Trigger::FirstRead);
    let length = disk.length_limit;
    let request = UploadRequest { build: lab.build(name), disk, ..UploadRequest::default() };
    let again = request.clone();
    let work: Work = Box::new(move |steps| steps.upload(&request).map(drop));
    let mut stopped = attempt(lab, &host, &steps, "upload", work);
    // A provider that reads everything at once cannot be stopped midway.
    stopped.unread = host.read_when_cancelled() < length;
    let stuck = stopped.stuck;
    seen.stopped.push(stopped);
    if stuck {
        return;
    }
    host.cancel_on(Trigger::Never);
    let (_, uploaded) = lab.call(&host, "upload", || steps.upload(&again));
    if let Some(uploaded) = uploaded {
        register(lab, seen, &host, &steps, uploaded);
    }
    if seen.stopped.iter().all(|stopped| !stopped.stuck) {
        seen.begun.extend(host.reports().begun);
        host.cancel_on(Trigger::Never);
        tidy(lab, &host, steps, name);
    }
}

fn register(
    lab: &Lab<'_>,
    seen: &mut Cancelled,
    host: &Arc<ProbeHost>,
    steps: &Arc<dyn Steps>,
    uploaded: Uploaded,
) {
    host.cancel_on(Trigger::FirstCall);
    let build = lab.build(DURING);
    let request = RegisterRequest { build, uploaded, ..RegisterRequest::default() };
    let work: Work = Box::new(move |steps| steps.register(&request).map(drop));
    let stopped = attempt(lab, host, steps, "register", work);
    seen.stopped.push(stopped);
}

type Work = Box<dyn FnOnce(&dyn Steps) -> Result<()> + Send>;

/// Runs a step in a thread, so that the probe can continue without a step that does not stop.
fn attempt(
    lab: &Lab<'_>,
    host: &Arc<ProbeHost>,
    steps: &Arc<dyn Steps>,
    step: &'static str,
    work: Work,
) -> Stopped {
    lab.begin(step);
    let (sender, receiver) = mpsc::channel();
    let (its_host, its_steps) = (Arc::clone(host), Arc::clone(steps));
    std::thread::spawn(move || {
        let result = its_host.during(step, || work(its_steps.as_ref()));
        let after = its_host.since_cancel();
        // The instance ends before the answer is sent, not some time after it.
        drop(its_steps);
        let _ = sender.send((result, after));
    });
    let answer = loop {
        match receiver.recv_timeout(Duration::from_millis(50)) {
            Ok(answer) => break Some(answer),
            Err(mpsc::RecvTimeoutError::Disconnected) => break None,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if host.since_cancel().is_some_and(|waited| waited > STOP_TIMEOUT) {
            break None;
        }
    };
    let mut stopped =
        Stopped { call: Call { step: step.to_owned(), ..Call::default() }, ..Stopped::default() };
    match answer {
        Some((result, after)) => {
            stopped.call.failure = result.as_ref().err().map(Into::into);
            stopped.after = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        }
        None => stopped.stuck = true,
    }
    stopped
}

/// Removes what the attempts left, and ends the instance.
fn tidy(lab: &Lab<'_>, host: &Arc<ProbeHost>, steps: Arc<dyn Steps>, name: &str) {
    host.cancel_on(Trigger::Never);
    let resources = build::resources(host);
    if !resources.is_empty() {
        // A request whose answer was not awaited may arrive after the first time.
        for _ in 0..2 {
            build::discard(lab, host, steps.as_ref(), &lab.build(name), &resources);
            build::listen(host);
        }
    }
    lab.begin("drop");
    host.during("drop", || drop(steps));
}
