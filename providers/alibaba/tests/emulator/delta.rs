//! Tests uploads that copy unchanged parts from an earlier object, and measures what they send by the emulator's request
//! log.

use build_image_plugin_api::{
    Provider,
    document::{DiscardReason, DiscardRequest, InventoryRequest},
};
use serde_json::json;

use crate::{
    delta_bench::{Bench, LARGE, LENGTH, disk, disk_with, in_five_runs, noise, warnings},
    harness::{calls, count},
    oss::{delete, keys},
};

/// Changes 1 % of the disk in pages of 4 KiB that are scattered over it.
fn scattered(disk: &mut [u8]) {
    let pages = disk.len() / 4096;
    let mut state = 7_u64;
    for _ in 0..pages / 100 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let page = usize::try_from(state >> 33).unwrap() % pages;
        disk[page * 4096] ^= 1;
    }
}

#[test]
fn only_what_has_changed_is_sent() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(&str, Change, std::ops::RangeInclusive<u64>); 8] = [
        ("unchanged", |_| {}, 0..=0),
        ("a byte", |disk| disk[LARGE / 2] ^= 1, 1..=1),
        ("the last byte", |disk| disk[LARGE - 1] ^= 1, 1..=1),
        ("1 % in five runs", |disk| in_five_runs(disk), 1..=3),
        ("1 % scattered", |disk| scattered(disk), 10..=60),
        ("grown by a tenth", |disk| disk.extend(noise(LARGE / 10, 3)), 9..=10),
        ("shrunk by half", |disk| disk.truncate(LARGE / 2), 0..=1),
        ("everything", |disk| *disk = noise(LARGE, 5), 100..=100),
    ];
    for (name, change, expected) in cases {
        let mut disk = noise(LARGE, 1);
        let bench = Bench::with_base_of(disk.clone());
        change(&mut disk);
        let run = bench.run(disk.clone(), &[]);
        let uploaded = bench.holds(run.upload(), &disk);
        let (sent, length) = (bench.sent(), disk.len() as u64);
        println!(
            "{name}: {sent} of {length} bytes sent ({:.2} %) in {} parts, {} parts copied",
            sent as f64 * 100.0 / length as f64,
            calls(&bench.log(), "UploadPart"),
            bench.copies(),
        );
        assert_eq!(uploaded.bytes_sent, sent, "{name}");
        assert!(expected.contains(&(sent * 100).div_ceil(length)), "{name}: {sent} of {length}");
        assert_eq!(warnings(&run), [""; 0], "{name}");
        assert!(run.host.resources().iter().all(|resource| resource.deliverable));
        // The next build copies from this one.
        bench.forget_requests();
        let next = bench.run(disk.clone(), &[]);
        bench.holds(next.upload(), &disk);
        assert_eq!((bench.sent(), bench.manifests().len()), (0, 3), "{name}");
    }
}

#[test]
fn a_build_that_cannot_gain_makes_no_further_request() {
    for extra in [
        vec![("ALIBABA_KEEP_OSS_OBJECT", json!(false))],
        vec![("ALIBABA_UPLOAD_DELTA", json!("off"))],
        vec![("ALIBABA_DISK_FORMAT", json!("qcow2"))],
        vec![("ALIBABA_DISK_FORMAT", json!("vhd"))],
    ] {
        let bench = Bench::new();
        let disk = noise(3 << 20, 1);
        bench.holds(bench.run(disk.clone(), &extra).upload(), &disk);
        for operation in ["ListObjectsV2", "GetObject", "PutObject", "UploadPartCopy"] {
            // Reading the object back is this test's.
            let own = usize::from(operation == "GetObject");
            assert_eq!(calls(&bench.log(), operation), own, "{extra:?} {operation}");
        }
        assert_eq!(count(&bench.emulator, "objects"), 1);
    }
}

#[test]
fn a_named_base_is_used_without_keeping_the_object() {
    let bench = Bench::with_base();
    let base = bench.base();
    for (name, copies) in
        [(base.clone(), true), (format!("oss://demo/{base}"), true), ("other.raw".into(), false)]
    {
        bench.forget_requests();
        let extra = [
            ("ALIBABA_KEEP_OSS_OBJECT", json!(false)),
            ("ALIBABA_UPLOAD_DELTA_BASE", json!(name)),
            // Another lineage.
            ("ALIBABA_IMAGE_FAMILY", json!("other")),
        ];
        let run = bench.run(disk(), &extra);
        bench.holds(run.upload(), &disk());
        assert_eq!(bench.sent() == 0, copies, "{name}");
        assert_eq!(warnings(&run).len(), usize::from(!copies), "{name}: {:?}", warnings(&run));
        assert_eq!(bench.manifests().len(), 1);
        let found: Vec<String> = run.check().findings.iter().map(|f| f.message.clone()).collect();
        let expected = if copies { "only what differs from `" } else { "has no manifest" };
        assert!(found.iter().any(|text| text.contains(expected)), "{found:?}");
    }
}

#[test]
fn the_newest_object_of_the_lineage_is_the_base() {
    let bench = Bench::with_base();
    let mut other = bench.run(noise(LENGTH, 2), &[]);
    other.build.image_name = "quite-another".into();
    other.upload().unwrap();
    let second = disk_with(|disk| disk[0] ^= 1);
    bench.run(second.clone(), &[]).upload().unwrap();
    bench.forget_requests();
    let run = bench.run(second.clone(), &[]);
    bench.holds(run.upload(), &second);
    assert_eq!(bench.sent(), 0);
    // Without the newest one, the one before is used.
    let newest = keys(&bench.emulator).into_iter().rfind(|key| key.ends_with(".raw")).unwrap();
    delete(&bench.emulator, &newest);
    bench.forget_requests();
    bench.holds(bench.run(second.clone(), &[]).upload(), &second);
    assert_eq!(bench.sent(), 0);
}

#[test]
fn a_manifest_that_cannot_be_written_is_a_warning_and_leaves_nothing() {
    for action in [json!({"status": 403, "code": "AccessDenied"}), json!("reset_after")] {
        let bench = Bench::new();
        bench.set_faults(&json!([{"operation": "PutObject", "action": action}]));
        let run = bench.run(disk(), &[]);
        let uploaded = run.upload();
        bench.set_faults(&json!([]));
        bench.holds(uploaded, &disk());
        assert_eq!(warnings(&run).len(), 1, "{:?}", warnings(&run));
        assert_eq!((bench.manifests().len(), run.host.resources().len()), (0, 1));
    }
}

#[test]
fn a_manifest_is_a_resource_of_its_run_and_is_removed_with_the_object() {
    let bench = Bench::with_base();
    let run = bench.run(disk(), &[]);
    bench.holds(run.upload(), &disk());
    let id = run.build.run_id.clone();
    let request = InventoryRequest::default().run_id(&id);
    let listed = run.provider.inventory(&run.context, &request).unwrap().items;
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(listed.iter().all(|item| item.resource.deliverable));
    // The inventory and the journal name the same resources, and either removes both; the base stays.
    let of_journal = run.host.resources();
    for resource in &of_journal {
        assert!(listed.iter().any(|item| item.resource.name == resource.name), "{resource:?}");
    }
    let request = DiscardRequest::new(DiscardReason::Failed, of_journal);
    let discarded = run.provider.discard(&run.context, &request).unwrap();
    assert_eq!((discarded.removed.len(), discarded.remaining.len()), (2, 0));
    assert_eq!(keys(&bench.emulator).len(), 2);
    assert!(keys(&bench.emulator)[0].contains("-120000-"));
}
