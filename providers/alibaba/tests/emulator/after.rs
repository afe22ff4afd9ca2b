//! Tests the steps after the import: copies, sharing, family, tags, and the attributes that ECS reports of
//! the image.

use build_image_emulator_alibaba::Config;
use build_image_plugin_api::{
    Event, Provider,
    document::{DiscardReason, DiscardRequest},
};
use serde_json::{Value, json};

use crate::{
    ecs::{ecs, images},
    harness::{Run, calls, count, emulator, emulator_with, host},
};

fn copies(regions: &[&str]) -> (&'static str, Value) {
    ("ALIBABA_IMAGE_COPY_REGIONS", json!(regions))
}

fn warnings(run: &Run) -> Vec<String> {
    let text = |event| match event {
        Event::Warning { text, .. } => Some(text),
        _ => None,
    };
    run.host.events().into_iter().filter_map(text).collect()
}

#[test]
fn copies_carry_tags_nvme_and_shares_and_the_own_region_is_left_out() {
    let emulator = emulator();
    let accounts: Vec<u64> = (0..12).map(|n| 2_000_000_000_000_000 + n).collect();
    let run = Run::new(
        &emulator,
        host(),
        &[
            copies(&["cn-shanghai", "cn-hangzhou", "eu-central-1", "cn-shanghai"]),
            ("ALIBABA_NVME_SUPPORT", json!("supported")),
            ("ALIBABA_IMAGE_FAMILY", json!("bigip-ltm")),
            ("ALIBABA_IMAGE_SHARE_ACCOUNT_IDS", json!(accounts)),
        ],
    );
    let registered = run.register(run.upload().unwrap()).unwrap();
    let regions: Vec<&str> =
        registered.images.iter().map(|image| image.region.as_deref().unwrap()).collect();
    assert_eq!(regions, ["cn-hangzhou", "cn-shanghai", "eu-central-1"]);
    for image in &registered.images {
        let region = image.region.as_deref().unwrap();
        let found = images(&emulator, region);
        assert_eq!(found.len(), 1, "{region}");
        assert_eq!(found[0]["ImageId"], json!(image.id));
        assert_eq!(found[0]["ImageName"], "F5-BIGIP-17-1-0-BYOL-ltm-1slot");
        assert_eq!(found[0]["Features"]["NvmeSupport"], "supported", "{region}");
        assert_eq!(found[0]["ImageFamily"], "bigip-ltm");
        let tags = found[0]["Tags"]["Tag"].as_array().unwrap();
        let keys: Vec<&str> = tags.iter().map(|tag| tag["TagKey"].as_str().unwrap()).collect();
        let marks = ["build-image-copy-of", "build-image-run", "platform"];
        assert_eq!(keys, marks[usize::from(region == "cn-hangzhou")..], "{region}");
        let snapshot = found[0]["DiskDeviceMappings"]["DiskDeviceMapping"][0]["SnapshotId"].clone();
        let listed = ecs(
            &emulator,
            "ListTagResources",
            &[
                ("RegionId", region),
                ("ResourceType", "snapshot"),
                ("ResourceId.1", snapshot.as_str().unwrap()),
            ],
        );
        let tags = listed["TagResources"]["TagResource"].as_array().unwrap();
        let keys: Vec<&str> = tags.iter().map(|tag| tag["TagKey"].as_str().unwrap()).collect();
        assert_eq!(keys, ["build-image-image", "build-image-run", "platform"], "{listed}");
        let facts = &registered.facts["regions"][region];
        assert_eq!(facts["shared_account_ids"].as_array().unwrap().len(), 12, "{facts}");
    }
    assert!(run.host.resources().iter().filter(|r| r.kind == "image").all(|r| r.deliverable));
    assert!(warnings(&run).is_empty(), "{:?}", warnings(&run));
}

#[test]
fn every_copy_is_recorded_before_it_is_made_and_removed_on_failure() {
    let emulator = emulator();
    let refused = json!([{"operation": "CopyImage", "nth": 2, "action": {"status": 403, "code": "QuotaExceed.Image"}}]);
    emulator.set_faults(&refused.to_string()).unwrap();
    let run = Run::new(&emulator, host(), &[copies(&["cn-shanghai", "eu-central-1", "us-west-1"])]);
    let error = run.register(run.upload().unwrap()).unwrap_err();
    assert_eq!(error.kind.code(), "quota");
    assert_eq!(error.context("regions_done"), Some("2"), "{error:?}");
    let planned = run.host.events().iter().filter(|event| {
        matches!(event, Event::ResourcePlanned { resource } if resource.attributes.contains_key("copied_from"))
    }).count();
    assert_eq!(planned, 3);
    // A resumed run makes only the missing copy.
    emulator.set_faults("[]").unwrap();
    let again = host().with_checkpoints(run.host.checkpoints());
    let second =
        Run::new(&emulator, again, &[copies(&["cn-shanghai", "eu-central-1", "us-west-1"])]);
    let registered = second.register(second.upload().unwrap()).unwrap();
    assert_eq!((registered.images.len(), count(&emulator, "images")), (4, 4));
    let mut resources = run.host.resources();
    resources.extend(second.host.resources());
    resources.reverse();
    let request = DiscardRequest::new(DiscardReason::default(), resources);
    let discarded = second.provider.discard(&second.context, &request).unwrap();
    assert!(discarded.remaining.is_empty(), "{discarded:?}");
    assert_eq!((count(&emulator, "images"), count(&emulator, "snapshots")), (0, 0));
}

#[test]
fn a_lost_answer_and_a_source_that_is_busy_do_not_make_a_second_copy() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let emulator = emulator_with(Config { log_requests: Some(log.clone()), ..Config::default() });
    let faults = json!([
        {"operation": "CopyImage", "nth": 1, "action": {"status": 403, "code": "OperationDenied.ImageCopying"}},
        {"operation": "CopyImage", "nth": 2, "action": "reset_after"},
    ]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let run = Run::new(&emulator, host(), &[copies(&["cn-shanghai"])]);
    let registered = run.register(run.upload().unwrap()).unwrap();
    assert_eq!((registered.images.len(), count(&emulator, "images")), (2, 2));
    assert_eq!(calls(&log, "CopyImage"), 3);
}

#[test]
fn a_copy_whose_id_was_never_learned_is_known_by_its_mark() {
    let emulator = emulator();
    // The copy is made, but neither its answer nor the next ones arrive.
    let faults = json!([{"operation": "CopyImage", "nth": 1, "action": "truncate_answer"},
        {"operation": "CopyImage", "nth": 2, "count": 1, "action": {"status": 403, "code": "Forbidden.RAM"}}]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let run = Run::new(&emulator, host(), &[copies(&["cn-shanghai"])]);
    run.register(run.upload().unwrap()).unwrap_err();
    assert_eq!(images(&emulator, "cn-shanghai").len(), 1);
    // The clean-up of a failed build would also find it.
    let planned = run.host.resources();
    assert!(
        planned.iter().any(|one| one.id.is_none() && one.attributes.contains_key("copied_from"))
    );
    let again = host().with_checkpoints(run.host.checkpoints());
    let second = Run::new(&emulator, again, &[copies(&["cn-shanghai"])]);
    let registered = second.register(second.upload().unwrap()).unwrap();
    let there = images(&emulator, "cn-shanghai");
    assert_eq!(there.len(), 1);
    assert_eq!(there[0]["ImageId"], json!(registered.images[1].id));
    let tags = there[0]["Tags"]["Tag"].as_array().unwrap();
    assert!(
        tags.iter().all(|tag| tag["TagValue"].as_str().unwrap().find('+').is_none()),
        "{tags:?}"
    );
}

#[test]
fn a_copy_whose_id_was_never_learned_is_removed_by_its_mark() {
    let emulator = emulator();
    let faults = json!([{"operation": "CopyImage", "nth": 1, "action": "truncate_answer"},
        {"operation": "CopyImage", "nth": 2, "count": 1, "action": {"status": 403, "code": "Forbidden.RAM"}}]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let run = Run::new(&emulator, host(), &[copies(&["cn-shanghai"])]);
    run.register(run.upload().unwrap()).unwrap_err();
    let mut resources = run.host.resources();
    resources.reverse();
    let request = DiscardRequest::new(DiscardReason::default(), resources);
    let discarded = run.provider.discard(&run.context, &request).unwrap();
    assert!(discarded.remaining.is_empty(), "{discarded:?}");
    assert_eq!((count(&emulator, "images"), count(&emulator, "objects")), (0, 0));
}

#[test]
fn accounts_can_lose_their_share() {
    let emulator = emulator();
    let ids = [2_000_000_000_000_001_u64, 2_000_000_000_000_002];
    let first = Run::new(&emulator, host(), &[("ALIBABA_IMAGE_SHARE_ACCOUNT_IDS", json!(ids))]);
    let uploaded = first.upload().unwrap();
    first.register(uploaded.clone()).unwrap();
    let again = host().with_checkpoints(first.host.checkpoints());
    let back = ("ALIBABA_IMAGE_UNSHARE_ACCOUNT_IDS", json!([ids[0], 7]));
    let registered = Run::new(&emulator, again, &[back]).register(uploaded).unwrap();
    let answer = ecs(
        &emulator,
        "DescribeImageSharePermission",
        &[("RegionId", "cn-hangzhou"), ("ImageId", &registered.images[0].id)],
    );
    let left = answer["Accounts"]["Account"].as_array().unwrap();
    assert_eq!(left.len(), 1, "{answer}");
}

#[test]
fn the_boot_mode_that_ecs_reports_is_compared_with_what_was_asked_for() {
    let emulator = emulator();
    let run = Run::new(&emulator, host(), &[("ALIBABA_BOOT_MODE", json!("UEFI"))]);
    let uploaded = run.upload().unwrap();
    let registered = run.register(uploaded.clone()).unwrap();
    let id = registered.images[0].id.as_str();
    // Another client changes the image; a resumed run sets it again.
    let changed = ecs(
        &emulator,
        "ModifyImageAttribute",
        &[("RegionId", "cn-hangzhou"), ("ImageId", id), ("BootMode", "BIOS")],
    );
    assert!(changed.get("Code").is_none(), "{changed}");
    let again = host().with_checkpoints(run.host.checkpoints());
    let second = Run::new(&emulator, again, &[("ALIBABA_BOOT_MODE", json!("UEFI"))]);
    second.register(uploaded).unwrap();
    assert_eq!(images(&emulator, "cn-hangzhou")[0]["BootMode"], "UEFI");
}

#[test]
fn risks_of_the_vendors_image_check_are_warnings_and_all_of_it_is_in_the_result() {
    let emulator = emulator();
    let report = json!([
        {"name": "GUESTOS.Virtio", "value": "missing", "risk_level": "High", "risk_code": "NoVirtio"},
        {"name": "GUESTOS.Dhcp", "value": "static", "risk_level": "Medium", "risk_code": "NoDhcp"},
        {"name": "GUESTOS.BootMode", "value": "BIOS"},
    ]);
    let faults = json!([{"operation": "ImportImage", "action": {"image_check": report}}]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let strategy = ("ALIBABA_DETECTION_STRATEGY", json!("Standard"));
    let run = Run::new(&emulator, host(), &[strategy.clone(), copies(&["cn-shanghai"])]);
    let registered = run.register(run.upload().unwrap()).unwrap();
    let id = &registered.images[0].id;
    assert_eq!(
        warnings(&run),
        [
            format!("image check of {id}: GUESTOS.Virtio is `missing` (high risk, NoVirtio)"),
            format!("image check of {id}: GUESTOS.Dhcp is `static` (medium risk, NoDhcp)"),
        ]
    );
    let items = registered.facts["image_check"].as_array().unwrap();
    assert_eq!(items.len(), 3);
    assert_eq!(
        items[2],
        json!({"name": "GUESTOS.BootMode", "value": "BIOS", "risk_level": "", "risk_code": ""})
    );
    // Without the setting nothing is checked, whatever would be found.
    let mut run = Run::new(&emulator, host(), &[]).called("run-2");
    run.build.image_name.push_str("-2");
    let registered = run.register(run.upload().unwrap()).unwrap();
    assert!(!registered.facts.contains_key("image_check") && warnings(&run).is_empty());
}

#[test]
fn architecture_and_boot_mode_default_to_those_of_the_disk() {
    for (disk, settings, expected) in [
        (("x86_64", "bios"), &[][..], ("x86_64", "BIOS")),
        (("x86_64", "uefi"), &[], ("x86_64", "UEFI")),
        (("aarch64", "uefi"), &[], ("arm64", "UEFI")),
        // An arm64 machine never starts from a BIOS, whatever the disk was detected as.
        (("aarch64", "bios"), &[], ("arm64", "UEFI")),
        (("x86_64", "bios"), &[("ALIBABA_BOOT_MODE", json!("UEFI"))], ("x86_64", "UEFI")),
        (("x86_64", "uefi"), &[("ALIBABA_BOOT_MODE", json!("BIOS"))], ("x86_64", "BIOS")),
        (("x86_64", "bios"), &[("ALIBABA_ARCHITECTURE", json!("arm64"))], ("arm64", "UEFI")),
        (("x86_64", "bios"), &[("ALIBABA_ARCHITECTURE", json!("i386"))], ("i386", "BIOS")),
    ] {
        let emulator = emulator();
        let mut run = Run::new(&emulator, host(), settings);
        run.build.architecture = disk.0.into();
        run.build.boot_mode = disk.1.into();
        run.register(run.upload().unwrap()).unwrap();
        let image = &images(&emulator, "cn-hangzhou")[0];
        let found = (&image["Architecture"], &image["BootMode"], &image["Features"]["NvmeSupport"]);
        assert_eq!(
            found,
            (&json!(expected.0), &json!(expected.1), &json!("unsupported")),
            "{disk:?}"
        );
    }
}

#[test]
fn a_copy_is_encrypted_with_the_key_of_its_region() {
    let emulator = emulator();
    let keys = ("ALIBABA_IMAGE_COPY_KEYS", json!(["cn-shanghai=key-1"]));
    let run = Run::new(&emulator, host(), &[copies(&["cn-shanghai", "eu-central-1"]), keys]);
    run.register(run.upload().unwrap()).unwrap();
    for (region, encrypted, key) in
        [("cn-hangzhou", false, ""), ("cn-shanghai", true, "key-1"), ("eu-central-1", false, "")]
    {
        let found = ecs(&emulator, "DescribeSnapshots", &[("RegionId", region)]);
        let snapshot = &found["Snapshots"]["Snapshot"][0];
        let expected = (&json!(encrypted), &json!(key));
        assert_eq!((&snapshot["Encrypted"], &snapshot["KMSKeyId"]), expected, "{region}");
    }
}

#[test]
fn an_object_that_ecs_finds_only_later_is_imported() {
    let emulator = emulator();
    let missing = json!({"status": 404, "code": "InvalidOSSObject.NotFound"});
    let faults = json!([{"operation": "ImportImage", "nth": 1, "count": 2, "action": missing}]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let run = Run::new(&emulator, host(), &[]);
    run.register(run.upload().unwrap()).unwrap();
    assert_eq!(count(&emulator, "images"), 1);
}

#[test]
fn copies_are_made_in_parallel() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("requests");
    let emulator = emulator_with(Config {
        import_time: std::time::Duration::from_secs(2),
        log_requests: Some(log.clone()),
        ..Config::default()
    });
    let regions = json!(["cn-shanghai", "cn-beijing", "eu-central-1"]);
    let run = Run::new(&emulator, host(), &[("ALIBABA_IMAGE_COPY_REGIONS", regions)]);
    run.register(run.upload().unwrap()).unwrap();
    let text = std::fs::read_to_string(log).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let times: Vec<jiff::Timestamp> = lines
        .filter(|line| line["operation"] == "CopyImage")
        .map(|line| line["time"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(times.len(), 3);
    // One copy takes two seconds: the last one is requested before the first one exists.
    let between = times[2].duration_since(times[0]);
    assert!(between < jiff::SignedDuration::from_secs(2), "{between:?}");
}
