//! Tests the removal of what runs created.

use build_image_plugin_api::{
    Provider, Resource,
    document::{DiscardReason, DiscardRequest},
};
use serde_json::json;

use crate::{
    ecs::{ecs, images},
    harness::{Run, count, emulator, host},
};

fn discard_all(run: &Run) -> build_image_plugin_api::document::Discarded {
    let resources = run.host.resources();
    run.provider
        .discard(&run.context, &DiscardRequest::new(DiscardReason::default(), resources))
        .unwrap()
}

#[test]
fn everything_of_a_run_is_removed_and_removing_it_twice_is_fine() {
    let emulator = emulator();
    let run = Run::new(&emulator, host(), &[]);
    run.register(run.upload().unwrap()).unwrap();
    let resources = run.host.resources();
    assert_eq!(resources.len(), 2, "{resources:?}");
    for _ in 0..2 {
        let request = DiscardRequest::new(DiscardReason::default(), resources.clone());
        let discarded = run.provider.discard(&run.context, &request).unwrap();
        assert_eq!((discarded.removed.len(), discarded.remaining.len()), (2, 0), "{discarded:?}");
    }
    for what in ["objects", "images", "snapshots", "open_uploads"] {
        assert_eq!(count(&emulator, what), 0, "{what}");
    }
    assert!(run.host.resources().is_empty());
}

#[test]
fn a_cancelled_upload_is_removed_although_the_host_is_cancelled() {
    let emulator = emulator();
    let run = Run::new(&emulator, host().cancel_after_reads(6), &[]);
    run.upload().unwrap_err();
    assert!(run.context.is_cancelled());
    assert_eq!(count(&emulator, "open_uploads"), 1);
    let discarded = discard_all(&run);
    assert!(discarded.remaining.is_empty(), "{discarded:?}");
    assert_eq!((count(&emulator, "open_uploads"), count(&emulator, "parts")), (0, 0));
}

#[test]
fn an_import_that_runs_is_cancelled_first() {
    let config = build_image_emulator_alibaba::Config {
        import_time: std::time::Duration::from_secs(3600),
        ..build_image_emulator_alibaba::Config::default()
    };
    let emulator = crate::harness::emulator_with(config);
    let run = Run::new(&emulator, host(), &[("ALIBABA_IMPORT_TIMEOUT", json!(0))]);
    run.register(run.upload().unwrap()).unwrap_err();
    let discarded = discard_all(&run);
    assert!(discarded.remaining.is_empty(), "{discarded:?}");
    assert_eq!((count(&emulator, "images"), count(&emulator, "snapshots")), (0, 0));
}

#[test]
fn an_upload_whose_id_was_never_learned_is_found_by_its_key() {
    let emulator = emulator();
    let run = Run::new(&emulator, host().cancel_after_reads(6), &[]);
    run.upload().unwrap_err();
    let mut resources = run.host.resources();
    resources.retain(|resource| resource.kind == "multipart_upload");
    resources[0].id = None;
    let request = DiscardRequest::new(DiscardReason::default(), resources);
    let discarded = run.provider.discard(&run.context, &request).unwrap();
    assert_eq!(discarded.removed.len(), 1, "{discarded:?}");
    assert_eq!(count(&emulator, "open_uploads"), 0);
}

#[test]
fn an_image_of_the_same_name_from_elsewhere_is_left_alone() {
    let emulator = emulator();
    let run = Run::new(&emulator, host(), &[]);
    let registered = run.register(run.upload().unwrap()).unwrap();
    let planned = Resource::new("image", &registered.images[0].name)
        .in_region("cn-hangzhou")
        .with("bucket", "demo")
        .with("object", "another-object.raw");
    let request = DiscardRequest::new(DiscardReason::default(), [planned]);
    run.provider.discard(&run.context, &request).unwrap();
    assert_eq!(count(&emulator, "images"), 1);
}

#[test]
fn leftovers_are_listed_with_the_command_that_removes_them() {
    let emulator = emulator();
    let run = Run::new(&emulator, host(), &[]);
    run.upload().unwrap();
    let refused = r#"[{"operation":"DeleteObject","action":{"status":403,"code":"AccessDenied"}}]"#;
    emulator.set_faults(refused).unwrap();
    let discarded = discard_all(&run);
    assert_eq!((discarded.removed.len(), discarded.remaining.len()), (0, 1));
    let remaining = &discarded.remaining[0];
    assert!(remaining.reason.contains("not permitted"), "{remaining:?}");
    let hint = remaining.hint.as_deref().unwrap();
    assert!(hint.starts_with("aliyun oss rm oss://demo/build-image-run-1"), "{hint}");
}

/// The leftovers of a run that was killed after `ImportImage` had been sent and before its answer came.
fn killed_in_the_import(emulator: &build_image_emulator_alibaba::Running) -> Run {
    let faults = json!([
        {"operation": "ImportImage", "nth": 1, "action": "reset_after"},
        {"operation": "ImportImage", "nth": 2, "count": 99, "action": {"status": 403, "code": "Forbidden.RAM"}},
    ]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let run = Run::new(emulator, host(), &[]);
    run.register(run.upload().unwrap()).unwrap_err();
    emulator.set_faults("[]").unwrap();
    assert_eq!((count(emulator, "images"), count(emulator, "snapshots")), (1, 1));
    run
}

fn image_of(run: &Run) -> Resource {
    run.host.resources().into_iter().find(|resource| resource.kind == "image").unwrap()
}

fn discard(run: &Run, resource: Resource) -> build_image_plugin_api::document::Discarded {
    let request = DiscardRequest::new(DiscardReason::default(), [resource]);
    run.provider.discard(&run.context, &request).unwrap()
}

#[test]
fn a_snapshot_whose_image_went_first_is_found_when_the_image_was_never_learned() {
    let emulator = emulator();
    let run = killed_in_the_import(&emulator);
    let image = image_of(&run);
    assert_eq!(image.id, None);
    // Another client removed the image: only the snapshot's name and time identify it.
    let id = images(&emulator, "cn-hangzhou")[0]["ImageId"].as_str().unwrap().to_owned();
    ecs(&emulator, "DeleteImage", &[("RegionId", "cn-hangzhou"), ("ImageId", &id)]);
    assert_eq!((count(&emulator, "images"), count(&emulator, "snapshots")), (0, 1));
    assert!(discard(&run, image).remaining.is_empty());
    assert_eq!(count(&emulator, "snapshots"), 0);
}

#[test]
fn a_clean_up_stopped_between_image_and_snapshot_continues_with_the_snapshot() {
    let emulator = emulator();
    let run = killed_in_the_import(&emulator);
    let refused = r#"[{"operation":"DeleteSnapshot","action":{"status":403,"code":"Forbidden.RAM"}},
        {"operation":"DescribeSnapshots","action":{"status":403,"code":"Forbidden.RAM"}}]"#;
    emulator.set_faults(refused).unwrap();
    let remaining = discard(&run, image_of(&run)).remaining;
    let hint = remaining[0].hint.clone().unwrap_or_default();
    assert_eq!(remaining.len(), 1);
    assert!(hint.contains("DeleteSnapshot --RegionId cn-hangzhou --SnapshotId s-"), "{hint}");
    assert_eq!((count(&emulator, "images"), count(&emulator, "snapshots")), (0, 1));
    // What the host recorded in the meantime is enough: no names are looked up.
    emulator
        .set_faults(
            r#"[{"operation":"DescribeSnapshots","action":{"status":403,"code":"Forbidden.RAM"}}]"#,
        )
        .unwrap();
    assert!(discard(&run, image_of(&run)).remaining.is_empty());
    assert_eq!(count(&emulator, "snapshots"), 0);
}

#[test]
fn snapshots_of_others_stay_whatever_they_are_called() {
    let emulator = emulator();
    // An image of the same name, older than the run, of which only the snapshot is left.
    emulator.set_faults(r#"[{"operation":"*","action":{"skew_seconds":-600}}]"#).unwrap();
    let old = Run::new(&emulator, host(), &[]).called("run-0");
    old.register(old.upload().unwrap()).unwrap();
    emulator.set_faults("[]").unwrap();
    let id = image_of(&old).id.unwrap();
    ecs(&emulator, "DeleteImage", &[("RegionId", "cn-hangzhou"), ("ImageId", &id)]);
    assert_eq!((count(&emulator, "images"), count(&emulator, "snapshots")), (0, 1));
    // The import was planned, but never arrived.
    let run = Run::new(&emulator, host(), &[]);
    let planned = Resource::new("image", &run.build.image_name)
        .in_region("cn-hangzhou")
        .with("bucket", "demo")
        .with("object", "build-image-run-1.raw")
        .with("since", jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    assert!(discard(&run, planned.clone()).remaining.is_empty());
    assert_eq!(count(&emulator, "snapshots"), 1);
    // A younger image of that name that is not this run's: its snapshot is in use.
    let other = Run::new(&emulator, host(), &[]).called("run-9");
    other.register(other.upload().unwrap()).unwrap();
    assert!(discard(&run, planned).remaining.is_empty());
    assert_eq!((count(&emulator, "images"), count(&emulator, "snapshots")), (1, 2));
}

#[test]
fn a_call_that_was_refused_outright_leaves_no_recorded_resource() {
    let emulator = emulator();
    let refuse = |operation: &str| {
        let rule =
            json!([{"operation": operation, "action": {"status": 403, "code": "AccessDenied"}}]);
        emulator.set_faults(&rule.to_string()).unwrap();
    };
    refuse("InitiateMultipartUpload");
    let run = Run::new(&emulator, host(), &[]);
    run.upload().unwrap_err();
    assert!(run.host.resources().is_empty(), "{:?}", run.host.resources());
    refuse("ImportImage");
    let run = Run::new(&emulator, host(), &[]);
    run.register(run.upload().unwrap()).unwrap_err();
    let kinds: Vec<String> = run.host.resources().into_iter().map(|left| left.kind).collect();
    assert_eq!(kinds, ["oss_object"]);
}
