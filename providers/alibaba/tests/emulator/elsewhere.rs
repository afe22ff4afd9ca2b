//! Tests runs that are resumed or cleaned up with other settings, other bytes, or other keys than they began
//! with.

use std::time::Duration;

use build_image_emulator_alibaba::{BucketSeed, Config, Running, start};
use build_image_plugin_api::{
    Event, Host, Provider, Resource,
    document::{DiscardReason, DiscardRequest, Discarded},
    testing::MockHost,
};
use serde_json::{Value, json};

use crate::{
    ecs::images,
    harness::{Run, build, content, count, emulator, emulator_with, host},
};

fn two_buckets() -> Running {
    let buckets = ["demo", "demo2"].map(|text| BucketSeed::parse(text).unwrap());
    start(Config { buckets: buckets.into(), ..Config::default() }).unwrap()
}

/// The host of the next attempt: the recorded state, and possibly another disk.
fn next(before: &MockHost, disk: Vec<u8>) -> MockHost {
    let mut checkpoints = before.checkpoints();
    if disk != content() {
        // The host would record this of another disk.
        checkpoints.get_mut("upload").unwrap()["identity"] = json!("another");
    }
    let next = host().with_disk(disk).with_checkpoints(checkpoints);
    for resource in before.resources() {
        next.event(Event::ResourcePlanned { resource }).unwrap();
    }
    next
}

fn discard(run: &Run, reason: DiscardReason, mut resources: Vec<Resource>) -> Discarded {
    resources.reverse();
    let request = DiscardRequest::new(reason, resources);
    run.provider.discard(&run.context, &request).unwrap()
}

fn release(run: &Run) {
    let mut left = run.host.resources();
    left.retain(|resource| !resource.deliverable);
    let answer = discard(run, DiscardReason::Done, left);
    assert!(answer.remaining.is_empty(), "{answer:?}");
}

fn refused(operation: &str) -> String {
    json!([{"operation": operation, "action": {"status": 403, "code": "Forbidden.RAM"}}])
        .to_string()
}

/// Objects, unfinished uploads, images and snapshots.
fn counts(emulator: &Running) -> [u64; 4] {
    ["objects", "open_uploads", "images", "snapshots"].map(|what| count(emulator, what))
}

#[test]
fn a_run_resumed_with_another_bucket_leaves_nothing_in_the_first_one() {
    let other = [("ALIBABA_BUCKET", json!("demo2"))];
    // The object was complete, an import of it was refused or answered.
    for operation in ["ImportImage", "DescribeTaskAttribute"] {
        let emulator = two_buckets();
        emulator.set_faults(&refused(operation)).unwrap();
        let first = Run::new(&emulator, host(), &[]);
        first.register(first.upload().unwrap()).unwrap_err();
        emulator.set_faults("[]").unwrap();
        let second = Run::new(&emulator, next(&first.host, content()), &other);
        let uploaded = second.upload().unwrap();
        assert_eq!(uploaded.facts["bucket"], "demo2");
        second.register(uploaded).unwrap();
        release(&second);
        assert_eq!(counts(&emulator), [0, 0, 1, 1], "{operation}");
    }
    // An upload was unfinished, and its id was never received.
    for learned in [true, false] {
        let emulator = two_buckets();
        let first = Run::new(&emulator, host().cancel_after_reads(6), &[]);
        first.upload().unwrap_err();
        assert_eq!(count(&emulator, "open_uploads"), 1);
        let mut checkpoints = first.host.checkpoints();
        if !learned {
            checkpoints.get_mut("upload").unwrap()["upload_id"] = Value::Null;
        }
        let again = next(&first.host, content()).with_checkpoints(checkpoints);
        let second = Run::new(&emulator, again, &other);
        second.register(second.upload().unwrap()).unwrap();
        release(&second);
        assert_eq!(counts(&emulator), [0, 0, 1, 1], "learned: {learned}");
    }
}

#[test]
fn two_buckets_of_a_run_are_two_resources_and_those_of_older_journals_are_removed() {
    let emulator = two_buckets();
    let run = Run::new(&emulator, host(), &[]);
    run.upload().unwrap();
    let object = run.host.resources().remove(0);
    assert_eq!(object.name, "demo/build-image-run-1-mock.raw");
    let old = Resource::new("oss_object", "build-image-run-1-mock.raw")
        .in_region("cn-hangzhou")
        .with("bucket", "demo");
    assert!(discard(&run, DiscardReason::Leftover, vec![old]).remaining.is_empty());
    assert_eq!(count(&emulator, "objects"), 0);
}

#[test]
fn the_image_of_other_bytes_is_never_taken_for_this_runs() {
    let mut changed = content();
    changed[5] ^= 1;
    let replace = ("ALIBABA_IF_EXISTS", json!("replace"));
    // Killed while the import runs, or with everything done except the release.
    for operation in ["DescribeTaskAttribute", "none"] {
        let emulator = emulator();
        let old = Run::new(&emulator, host(), &[]).called("run-0");
        let old_id = old.register(old.upload().unwrap()).unwrap().images[0].id.clone();
        release(&old);
        emulator.set_faults(&refused(operation)).unwrap();
        let settings = std::slice::from_ref(&replace);
        let first = Run::new(&emulator, host(), settings);
        let _ = first.register(first.upload().unwrap());
        emulator.set_faults("[]").unwrap();
        let stale = first.host.checkpoints()["import"]["image_id"].clone();
        let second = Run::new(&emulator, next(&first.host, changed.clone()), settings);
        let uploaded = second.upload().unwrap();
        let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Xz, &changed);
        assert_eq!(uploaded.facts["crc64"], json!(sum.to_string()));
        let id = second.register(uploaded).unwrap().images[0].id.clone();
        assert!(json!(id) != stale && id != old_id, "{operation}");
        release(&second);
        let all = images(&emulator, "cn-hangzhou");
        assert_eq!(all.len(), 1, "{operation}: {all:#?}");
        assert_eq!(
            (&all[0]["ImageId"], &all[0]["ImageName"]),
            (&json!(id), &json!(build().image_name))
        );
        assert_eq!(counts(&emulator), [0, 0, 1, 1], "{operation}");
    }
}

#[test]
fn copies_of_other_bytes_are_made_again() {
    let copies = ("ALIBABA_IMAGE_COPY_REGIONS", json!(["cn-shanghai"]));
    let settings = std::slice::from_ref(&copies);
    let emulator = emulator();
    let first = Run::new(&emulator, host(), settings);
    let before = first.register(first.upload().unwrap()).unwrap();
    let mut changed = content();
    changed[7] ^= 1;
    let second = Run::new(&emulator, next(&first.host, changed), settings);
    let after = second.register(second.upload().unwrap()).unwrap();
    release(&second);
    for (before, after) in before.images.iter().zip(&after.images) {
        assert_ne!(before.id, after.id);
    }
    assert_eq!(counts(&emulator), [0, 0, 2, 2]);
}

#[test]
fn another_endpoint_or_account_is_refused_and_nothing_counts_as_removed() {
    let (emulator, other) = (emulator(), emulator());
    let run = Run::new(&emulator, host(), &[]);
    run.check();
    run.register(run.upload().unwrap()).unwrap();
    let resources = run.host.resources();
    assert!(resources.iter().all(|resource| resource.attributes.contains_key("account")));
    let far = Run::new(&other, next(&run.host, content()), &[]);
    let answer = discard(&far, DiscardReason::Leftover, resources.clone());
    assert!(answer.removed.is_empty(), "{answer:?}");
    for left in &answer.remaining {
        assert!(left.reason.contains(&emulator.address().to_string()), "{left:?}");
        assert!(left.hint.as_deref().unwrap().contains("_ENDPOINT"), "{left:?}");
    }
    assert!(far.upload().unwrap_err().message.contains("was begun at"));

    let stranger = |mut resource: Resource| {
        resource.attributes.insert("account".to_owned(), "42".to_owned());
        resource
    };
    let theirs: Vec<Resource> = resources.iter().cloned().map(stranger).collect();
    let answer = discard(&run, DiscardReason::Leftover, theirs);
    assert_eq!((answer.removed.len(), answer.remaining.len()), (0, 2), "{answer:?}");
    assert!(answer.remaining[0].reason.contains("account 42"), "{answer:?}");

    // The account of the keys cannot be determined now: the endpoint agrees, and what is found is removed.
    emulator.set_faults(&refused("GetCallerIdentity")).unwrap();
    let again = Run::new(&emulator, next(&run.host, content()), &[]);
    assert!(discard(&again, DiscardReason::Leftover, resources.clone()).remaining.is_empty());
    assert_eq!(counts(&emulator), [0; 4]);
    // An image that is not found may exist for the account that made it; a bucket is the same for all
    // accounts.
    let answer = discard(&again, DiscardReason::Leftover, resources.clone());
    let left: Vec<&str> = answer.remaining.iter().map(|left| left.resource.kind.as_str()).collect();
    assert_eq!((left, answer.removed.len()), (vec!["image"], resources.len() - 1), "{answer:?}");
    let left = &answer.remaining[0];
    assert!(left.reason.contains("whose keys these are is not known"), "{left:?}");
    assert!(left.hint.as_deref().unwrap().contains("sts:GetCallerIdentity"), "{left:?}");
    // Once the account is known, the image counts as removed.
    emulator.set_faults("[]").unwrap();
    let known = Run::new(&emulator, next(&run.host, content()), &[]);
    assert!(discard(&known, DiscardReason::Leftover, resources).remaining.is_empty());
}

#[test]
fn a_run_of_another_account_is_refused_by_the_check() {
    let emulator = emulator();
    let run = Run::new(&emulator, host(), &[]);
    run.check();
    let mut checkpoints = run.host.checkpoints();
    checkpoints.insert("account".to_owned(), json!("42"));
    let again = Run::new(&emulator, host().with_checkpoints(checkpoints), &[]);
    let found = again.check().findings;
    assert!(found.iter().any(|found| found.message.contains("belongs to account 42")), "{found:?}");
}

#[test]
fn a_lost_answer_to_the_start_of_an_upload_leaves_nothing() {
    let lost = r#"[{"operation":"InitiateMultipartUpload","nth":1,"action":"reset_after"}]"#;
    let emulator = emulator();
    emulator.set_faults(lost).unwrap();
    Run::new(&emulator, host(), &[]).upload().unwrap();
    assert_eq!((count(&emulator, "objects"), count(&emulator, "open_uploads")), (1, 0));

    // The upload whose id was received is removed together with the other one.
    let emulator = emulator_with(Config::default());
    emulator.set_faults(lost).unwrap();
    let run = Run::new(&emulator, host().cancel_after_reads(6), &[]);
    run.upload().unwrap_err();
    assert_eq!(count(&emulator, "open_uploads"), 2);
    let answer = discard(&run, DiscardReason::Failed, run.host.resources());
    assert!(answer.remaining.is_empty(), "{answer:?}");
    assert_eq!(count(&emulator, "open_uploads"), 0);
}

#[test]
fn an_import_whose_answer_was_lost_is_cancelled_and_not_waited_for() {
    let day = Duration::from_secs(86_400);
    let emulator = emulator_with(Config { import_time: day, ..Config::default() });
    let faults = json!([
        {"operation": "ImportImage", "nth": 1, "action": "reset_after"},
        {"operation": "ImportImage", "nth": 2, "action": {"status": 403, "code": "Forbidden.RAM"}},
    ]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let run = Run::new(&emulator, host(), &[]);
    run.register(run.upload().unwrap()).unwrap_err();
    assert_eq!(count(&emulator, "images"), 1);
    // Another process cleans up.
    let again = Run::new(&emulator, next(&run.host, content()), &[]);
    let answer = discard(&again, DiscardReason::Leftover, run.host.resources());
    assert!(answer.remaining.is_empty(), "{answer:?}");
    assert_eq!(counts(&emulator), [0; 4]);
}
