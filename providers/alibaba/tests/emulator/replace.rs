//! Tests `ALIBABA_IF_EXISTS=replace`: the name always belongs to a working image.

use build_image_plugin_api::{
    Event, Host, Provider,
    document::{DiscardReason, DiscardRequest, Severity},
};
use serde_json::{Value, json};

use crate::{
    ecs::images,
    harness::{Run, build, count, emulator, host},
};

const REPLACE: &str = "ALIBABA_IF_EXISTS";

fn old_image(emulator: &build_image_emulator_alibaba::Running, extra: &[(&str, Value)]) -> String {
    let run = Run::new(emulator, host(), extra);
    run.register(run.upload().unwrap()).unwrap().images[0].id.clone()
}

fn second_run(emulator: &build_image_emulator_alibaba::Running, extra: &[(&str, Value)]) -> Run {
    let mut all = vec![(REPLACE, json!("replace"))];
    all.extend(extra.iter().cloned());
    Run::new(emulator, host(), &all).called("run-2")
}

/// The host's actions when a build is released: deliverables become the user's, the rest is removed.
fn release(run: &Run) {
    let mut resources = run.host.resources();
    resources.retain(|resource| !resource.deliverable);
    resources.reverse();
    let reason = DiscardReason::Done;
    let request = DiscardRequest::new(reason, resources);
    let discarded = run.provider.discard(&run.context, &request).unwrap();
    assert!(discarded.remaining.is_empty(), "{discarded:?}");
}

fn holder(emulator: &build_image_emulator_alibaba::Running, region: &str) -> Value {
    let name = build().image_name;
    let found: Vec<Value> =
        images(emulator, region).into_iter().filter(|image| image["ImageName"] == name).collect();
    assert_eq!(found.len(), 1, "{region}");
    found[0]["ImageId"].clone()
}

#[test]
fn the_new_image_takes_the_name_and_the_old_one_is_deleted() {
    let emulator = emulator();
    let shares = ("ALIBABA_IMAGE_SHARE_ACCOUNT_IDS", json!([2_000_000_000_000_001_u64]));
    let old = old_image(&emulator, std::slice::from_ref(&shares));
    let run = second_run(&emulator, &[shares]);
    let report = run.check();
    assert!(report.findings.iter().all(|found| found.severity != Severity::Error), "{report:#?}");
    assert!(report.findings.iter().any(|found| found.message.contains("will be replaced")));
    let registered = run.register(run.upload().unwrap()).unwrap();
    assert_eq!(registered.images[0].name, build().image_name);
    assert_eq!(holder(&emulator, "cn-hangzhou"), json!(registered.images[0].id));
    assert_ne!(registered.images[0].id, old);
    // Until the build is released, its undo must find the old image.
    assert_eq!((count(&emulator, "images"), count(&emulator, "snapshots")), (2, 2));
    release(&run);
    assert_eq!((count(&emulator, "images"), count(&emulator, "snapshots")), (1, 1));
    assert!(run.host.resources().iter().all(|resource| resource.deliverable));
}

#[test]
fn copies_are_replaced_too() {
    let emulator = emulator();
    let copies = ("ALIBABA_IMAGE_COPY_REGIONS", json!(["cn-shanghai"]));
    old_image(&emulator, std::slice::from_ref(&copies));
    let run = second_run(&emulator, &[copies]);
    let registered = run.register(run.upload().unwrap()).unwrap();
    for image in &registered.images {
        assert_eq!(holder(&emulator, image.region.as_deref().unwrap()), json!(image.id));
    }
    release(&run);
    assert_eq!(count(&emulator, "images"), 2);
}

#[test]
fn a_free_name_is_simply_taken() {
    let emulator = emulator();
    let run = second_run(&emulator, &[]);
    let registered = run.register(run.upload().unwrap()).unwrap();
    assert_eq!(holder(&emulator, "cn-hangzhou"), json!(registered.images[0].id));
}

#[test]
fn a_run_killed_between_the_two_renames_is_finished_by_the_next_attempt() {
    let emulator = emulator();
    old_image(&emulator, &[]);
    let barred = json!([{"operation": "ModifyImageAttribute", "nth": 2, "count": 2,
        "action": {"status": 403, "code": "Forbidden.RAM"}}]);
    emulator.set_faults(&barred.to_string()).unwrap();
    let run = second_run(&emulator, &[]);
    let uploaded = run.upload().unwrap();
    run.register(uploaded.clone()).unwrap_err();
    emulator.set_faults("[]").unwrap();
    let again = host().with_checkpoints(run.host.checkpoints());
    for resource in run.host.resources() {
        again.event(Event::ResourcePlanned { resource }).unwrap();
    }
    let second = Run::new(&emulator, again, &[(REPLACE, json!("replace"))]).called("run-2");
    let registered = second.register(uploaded).unwrap();
    release(&second);
    assert_eq!(holder(&emulator, "cn-hangzhou"), json!(registered.images[0].id));
    assert_eq!(count(&emulator, "images"), 1);
}
