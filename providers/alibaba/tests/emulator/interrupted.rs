//! Tests `ALIBABA_IF_EXISTS=replace` with copies, a family, and shares, disturbed at every request and at
//! every line of the journal. Afterwards exactly one image has the name in every region, and nothing is left.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use build_image_emulator_alibaba::{Config, Running};
use build_image_plugin_api::{
    Context, Disk, DiskSpec, Error, Event, Host, LogRecord, Progress, Provider, Resource, Result,
    Secret,
    document::{DiscardReason, DiscardRequest, Discarded},
    testing::MockHost,
};
use serde_json::{Value, json};

use crate::{
    ecs::images,
    harness::{Run, build, count, emulator, emulator_with, host},
};

const REGIONS: [&str; 2] = ["cn-hangzhou", "cn-shanghai"];

fn settings() -> Vec<(&'static str, Value)> {
    vec![
        ("ALIBABA_IF_EXISTS", json!("replace")),
        ("ALIBABA_IMAGE_COPY_REGIONS", json!([REGIONS[1]])),
        ("ALIBABA_IMAGE_SHARE_ACCOUNT_IDS", json!([2_000_000_000_000_001_u64])),
        ("ALIBABA_IMAGE_FAMILY", json!("web-family")),
        // One part: the requests are what matters here.
        ("ALIBABA_UPLOAD_PART_SIZE", json!(4 << 20)),
    ]
}

/// The event at one of the host's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Ctrl-C.
    Stop,
    /// The process is killed before the line is written: nothing is written afterwards.
    Kill,
}

/// A host that ends a run at one of the lines it has to record.
struct Ending {
    inner: Arc<MockHost>,
    end: End,
    /// Number of lines that are still written.
    left: AtomicI64,
}

impl Ending {
    fn line(&self) -> Result<()> {
        let over = self.left.fetch_sub(1, Ordering::SeqCst) <= 0;
        if over && self.end == End::Kill {
            return Err(Error::internal("killed"));
        }
        if over {
            self.inner.cancel();
        }
        Ok(())
    }
}

impl Host for Ending {
    fn log(&self, record: LogRecord) {
        self.inner.log(record);
    }
    fn progress(&self, progress: Progress) {
        self.inner.progress(progress);
    }
    fn is_cancelled(&self) -> bool {
        self.inner.is_cancelled()
    }
    fn wait(&self, duration: Duration) -> bool {
        self.inner.wait(duration)
    }
    fn event(&self, event: Event) -> Result<()> {
        self.line()?;
        self.inner.event(event)
    }
    fn secret(&self, key: &str) -> Result<Option<Secret>> {
        self.inner.secret(key)
    }
    fn checkpoint_save(&self, key: &str, document: &Value) -> Result<()> {
        self.line()?;
        self.inner.checkpoint_save(key, document)
    }
    fn checkpoint_load(&self, key: &str) -> Result<Option<Value>> {
        if self.end == End::Kill && self.left.load(Ordering::SeqCst) < 0 {
            return Err(Error::internal("killed"));
        }
        self.inner.checkpoint_load(key)
    }
    fn make_disk(&self, spec: &DiskSpec) -> Result<Disk> {
        self.inner.make_disk(spec)
    }
    fn disk_read_at(&self, disk: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.inner.disk_read_at(disk, offset, buffer)
    }
}

fn old_images(emulator: &Running) -> Vec<String> {
    let run = Run::new(emulator, host(), &settings()[1..]);
    let registered = run.register(run.upload().unwrap()).unwrap();
    assert!(discard(&run, DiscardReason::Done, &released(&run.host)).remaining.is_empty());
    registered.images.into_iter().map(|image| image.id).collect()
}

/// The resources that the host still holds when the build is released.
fn released(host: &MockHost) -> Vec<Resource> {
    host.resources().into_iter().filter(|resource| !resource.deliverable).collect()
}

fn discard(run: &Run, reason: DiscardReason, resources: &[Resource]) -> Discarded {
    let resources = resources.iter().rev().cloned();
    let request = DiscardRequest::new(reason, resources);
    run.provider.discard(&run.context, &request).unwrap()
}

/// Runs a second build to its end, with the steps in the host's order. Returns the new images if it
/// succeeded.
fn whole(run: &Run) -> Option<Vec<String>> {
    match run.upload().and_then(|uploaded| run.register(uploaded)) {
        Ok(registered) => {
            discard(run, DiscardReason::Done, &released(&run.host));
            Some(registered.images.into_iter().map(|image| image.id).collect())
        }
        Err(_) => {
            discard(run, DiscardReason::Failed, &run.host.resources());
            None
        }
    }
}

/// Removes what a run left, undisturbed; twice, as users do.
fn clean(emulator: &Running, resources: &[Resource], checkpoints: &MockHost, place: &str) {
    let mut resources = resources.to_vec();
    for _ in 0..2 {
        let again = host().with_checkpoints(checkpoints.checkpoints());
        let run = Run::new(emulator, again, &settings()).called("run-2");
        let left = discard(&run, DiscardReason::Leftover, &resources);
        resources = left.remaining.into_iter().map(|left| left.resource).collect();
    }
    assert!(resources.is_empty(), "{place}: {resources:?}");
}

/// Exactly one image has the name in every region, an old one or a new one, and nothing else exists.
fn one_of_each(emulator: &Running, old: &[String], new: Option<&[String]>, place: &str) {
    for region in REGIONS {
        let all = images(emulator, region);
        assert_eq!(all.len(), 1, "{place}, {region}: {all:#?}");
        assert_eq!(all[0]["ImageName"], build().image_name, "{place}, {region}: {all:#?}");
        let id = all[0]["ImageId"].as_str().unwrap().to_owned();
        let expected = new.unwrap_or(old);
        assert!(expected.contains(&id), "{place}, {region}: {id}, not of {expected:?}");
    }
    for (what, expected) in [("snapshots", 2), ("objects", 0), ("open_uploads", 0)] {
        assert_eq!(count(emulator, what), expected, "{place}: {what}");
    }
}

fn lines(log: &Path) -> usize {
    std::fs::read_to_string(log).unwrap().lines().count()
}

/// Number of requests of a complete second run with its clean-up.
fn requests() -> usize {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("requests");
    let emulator = emulator_with(Config { log_requests: Some(log.clone()), ..Config::default() });
    let old = old_images(&emulator);
    let before = lines(&log);
    let run = Run::new(&emulator, host(), &settings()).called("run-2");
    let new = whole(&run).unwrap();
    assert!(run.host.resources().iter().all(|left| left.deliverable), "{:?}", run.host.resources());
    one_of_each(&emulator, &old, Some(&new), "undisturbed");
    lines(&log) - before
}

#[test]
fn a_refusal_or_a_lost_answer_at_any_request_leaves_one_image_under_the_name() {
    let all = requests();
    assert!(all > 25, "{all}");
    let actions = [json!({"status": 403, "code": "Forbidden.RAM"}), json!("reset_after")];
    for action in actions {
        let mut succeeded = 0;
        for nth in 1..=all {
            let place = format!("{action} at request {nth} of {all}");
            let emulator = emulator();
            let old = old_images(&emulator);
            let fault = json!([{"operation": "*", "nth": nth, "action": action}]);
            emulator.set_faults(&fault.to_string()).unwrap();
            let run = Run::new(&emulator, host(), &settings()).called("run-2");
            let new = whole(&run);
            // The number of polls varies: the last rules may have struck nothing.
            emulator.set_faults("[]").unwrap();
            let left = run.host.resources();
            let left: Vec<Resource> =
                left.into_iter().filter(|left| new.is_none() || !left.deliverable).collect();
            clean(&emulator, &left, &run.host, &place);
            one_of_each(&emulator, &old, new.as_deref(), &place);
            succeeded += usize::from(new.is_some());
        }
        println!("{action}: {all} requests, {succeeded} builds succeeded all the same");
    }
}

/// Runs a second build that ends at a line; returns the host's state at that time and the registered images.
fn ended(emulator: &Running, end: End, left: i64) -> (Arc<MockHost>, Option<Vec<String>>, bool) {
    let inner = Arc::new(host());
    let ending = Arc::new(Ending { inner: Arc::clone(&inner), end, left: AtomicI64::new(left) });
    let context = Context::new(Arc::clone(&ending) as Arc<dyn Host>);
    let run = Run::over(emulator, Arc::clone(&inner), context, &settings()).called("run-2");
    let outcome = run.upload().and_then(|uploaded| run.register(uploaded));
    let new: Option<Vec<String>> = outcome
        .ok()
        .map(|registered| registered.images.into_iter().map(|image| image.id).collect());
    let (reason, resources) = match &new {
        Some(_) => (DiscardReason::Done, released(&inner)),
        None => (DiscardReason::Failed, inner.resources()),
    };
    // A killed build removes nothing by itself.
    if end == End::Stop || new.is_some() {
        let resources = resources.into_iter().rev();
        let request = DiscardRequest::new(reason, resources);
        let _ = run.provider.discard(&run.context, &request);
    }
    let over = ending.left.load(Ordering::SeqCst) < 0;
    (inner, new, over)
}

#[test]
fn an_end_at_any_line_of_the_journal_leaves_one_image_under_the_name() {
    for end in [End::Stop, End::Kill] {
        for resume in [false, true] {
            let mut line = 0;
            loop {
                let place = format!("{end:?} at line {line}, resumed: {resume}");
                let emulator = emulator();
                let old = old_images(&emulator);
                let (first, mut new, over) = ended(&emulator, end, line);
                if !over {
                    break;
                }
                let left: Vec<Resource> = first
                    .resources()
                    .into_iter()
                    .filter(|left| new.is_none() || !left.deliverable)
                    .collect();
                if resume && new.is_none() && end == End::Kill {
                    let again = host().with_checkpoints(first.checkpoints());
                    for resource in left {
                        again.event(Event::ResourcePlanned { resource }).unwrap();
                    }
                    let second = Run::new(&emulator, again, &settings()).called("run-2");
                    new = whole(&second);
                    assert!(new.is_some(), "{place}");
                    assert!(released(&second.host).is_empty(), "{place}");
                } else {
                    clean(&emulator, &left, &first, &place);
                }
                one_of_each(&emulator, &old, new.as_deref(), &place);
                line += 1;
            }
            println!("{end:?}, resumed: {resume}: {line} lines");
            assert!(line > 15, "{line}");
        }
    }
}

#[test]
fn a_new_image_stays_when_the_old_one_cannot_have_its_name_back() {
    let emulator = emulator();
    let old = old_images(&emulator);
    // The names are swapped in both regions; then renaming is permanently forbidden.
    let run = Run::new(&emulator, host(), &settings()).called("run-2");
    run.register(run.upload().unwrap()).unwrap();
    let barred = json!([{"operation": "ModifyImageAttribute",
        "action": {"status": 403, "code": "Forbidden.RAM"}}]);
    emulator.set_faults(&barred.to_string()).unwrap();
    let left = discard(&run, DiscardReason::Failed, &run.host.resources()).remaining;
    for region in REGIONS {
        let named = images(&emulator, region)
            .into_iter()
            .filter(|image| image["ImageName"] == build().image_name)
            .count();
        assert_eq!(named, 1, "{region}");
    }
    emulator.set_faults("[]").unwrap();
    let left: Vec<Resource> = left.into_iter().rev().map(|left| left.resource).collect();
    clean(&emulator, &left, &run.host, "barred");
    one_of_each(&emulator, &old, None, "barred");
}

#[test]
fn a_replaced_image_is_deleted_only_under_the_name_it_was_moved_to_and_behind_its_successor() {
    let emulator = emulator();
    old_images(&emulator);
    let run = Run::new(&emulator, host(), &settings()).called("run-2");
    let registered = run.register(run.upload().unwrap()).unwrap();
    let left = released(&run.host);
    // In the meantime the user renamed the new image in one region and the old one in the other.
    let rename = |region: &str, id: &str, name: &str| {
        let parameters = [("RegionId", region), ("ImageId", id), ("ImageName", name)];
        crate::ecs::ecs(&emulator, "ModifyImageAttribute", &parameters);
    };
    rename(REGIONS[0], &registered.images[0].id, "web-renamed");
    let old = left
        .iter()
        .find(|left| left.kind == "replaced_image" && left.region.as_deref() == Some(REGIONS[1]))
        .unwrap();
    rename(REGIONS[1], old.id.as_deref().unwrap(), "web-kept");
    let answer = discard(&run, DiscardReason::Leftover, &left);
    assert_eq!(answer.remaining.len(), 1, "{answer:?}");
    assert!(answer.remaining[0].reason.contains("is not the name of image"), "{answer:?}");
    assert!(answer.remaining[0].hint.as_deref().unwrap().contains("DeleteImage"), "{answer:?}");
    assert_eq!(count(&emulator, "images"), 4);
}

#[test]
fn snapshots_of_a_replaced_image_are_removed_even_if_the_image_no_longer_exists() {
    let emulator = emulator();
    old_images(&emulator);
    let run = Run::new(&emulator, host(), &settings()).called("run-2");
    run.register(run.upload().unwrap()).unwrap();
    let left = released(&run.host);
    for old in left.iter().filter(|left| left.kind == "replaced_image") {
        let (region, id) = (old.region.as_deref().unwrap(), old.id.as_deref().unwrap());
        let parameters = [("RegionId", region), ("ImageId", id), ("Force", "true")];
        crate::ecs::ecs(&emulator, "DeleteImage", &parameters);
    }
    assert_eq!((count(&emulator, "images"), count(&emulator, "snapshots")), (2, 4));
    assert!(discard(&run, DiscardReason::Leftover, &left).remaining.is_empty());
    assert_eq!((count(&emulator, "images"), count(&emulator, "snapshots")), (2, 2));
}
