//! Tests the complete path of a build.

use build_image_emulator_alibaba::{Account, Config, Stored};
use build_image_plugin_api::{
    Provider,
    document::{DiscardReason, DiscardRequest, Severity},
    testing::MockHost,
};
use serde_json::json;

use crate::harness::{LENGTH, Run, calls, content, count, emulator, emulator_with, host};

#[test]
fn a_disk_becomes_an_image_and_the_intermediates_are_removed() {
    let emulator = emulator();
    let run = Run::new(&emulator, host(), &[("ALIBABA_OSS_PREFIX", json!("images/"))]);
    let report = run.check();
    assert!(report.findings.iter().all(|f| f.severity == Severity::Ok), "{report:#?}");

    let uploaded = run.upload().unwrap();
    assert_eq!(uploaded.bytes_sent, LENGTH);
    assert_eq!(uploaded.facts["object"], "images/build-image-run-1-mock.raw");
    assert_eq!(count(&emulator, "open_uploads"), 0);

    let registered = run.register(uploaded).unwrap();
    assert_eq!(registered.facts["region"], "cn-hangzhou");
    assert_eq!(registered.facts["image_id"], json!(registered.images[0].id));
    assert!(registered.facts.contains_key("location"));

    let open = run.host.resources();
    let (kept, intermediate): (Vec<_>, Vec<_>) = open.into_iter().partition(|r| r.deliverable);
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].id.as_deref(), Some(registered.images[0].id.as_str()));
    assert_eq!(intermediate.len(), 1);
    let discarded = run
        .provider
        .discard(&run.context, &DiscardRequest::new(DiscardReason::default(), intermediate))
        .unwrap();
    assert_eq!((discarded.removed.len(), discarded.remaining.len()), (1, 0));
    assert_eq!((count(&emulator, "objects"), count(&emulator, "images")), (0, 1));
}

#[test]
fn the_image_holds_the_disks_bytes_under_the_builds_name() {
    let emulator = emulator();
    let run = Run::new(&emulator, host(), &[]);
    let registered = run.register(run.upload().unwrap()).unwrap();
    let stored = Stored::open(emulator.state_dir()).unwrap();
    let image = &stored.images()[0];
    assert_eq!(
        (image.id.as_str(), image.format.as_str()),
        (registered.images[0].id.as_str(), "RAW")
    );
    assert_eq!(image.name, registered.images[0].name);
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy.raw");
    stored.export(&image.id, &copy).unwrap();
    assert!(std::fs::read(copy).unwrap().starts_with(&content()));
}

#[test]
fn an_object_that_is_to_be_kept_is_a_product() {
    let emulator = emulator();
    let run = Run::new(&emulator, host(), &[("ALIBABA_KEEP_OSS_OBJECT", json!(true))]);
    run.upload().unwrap();
    assert!(run.host.resources().iter().all(|resource| resource.deliverable));
}

#[test]
fn temporary_keys_bring_their_token() {
    let account = Account::parse("tmp-id:tmp-secret:tmp-token").unwrap();
    let emulator = emulator_with(Config { accounts: vec![account], ..Config::default() });
    let host = MockHost::new()
        .with_secret("ALIBABA_ACCESS_KEY_ID", "tmp-id")
        .with_secret("ALIBABA_ACCESS_KEY_SECRET", "tmp-secret")
        .with_secret("ALIBABA_SECURITY_TOKEN", "tmp-token")
        .with_disk(content());
    let run = Run::new(&emulator, host, &[]);
    run.register(run.upload().unwrap()).unwrap();
    assert_eq!(count(&emulator, "images"), 1);
}

#[test]
fn an_image_is_shared_with_more_accounts_than_one_call_takes() {
    let emulator = emulator();
    let accounts: Vec<u64> = (0..23).map(|n| 2_000_000_000_000_000 + n).collect();
    let share = ("ALIBABA_IMAGE_SHARE_ACCOUNT_IDS", json!(accounts));
    let run = Run::new(&emulator, host(), &[share]);
    let registered = run.register(run.upload().unwrap()).unwrap();
    let shared = registered.facts["shared_account_ids"].as_array().unwrap();
    assert_eq!(shared.len(), 23);
}

#[test]
fn progress_reaches_the_end_and_never_passes_it() {
    let emulator = emulator();
    let run = Run::new(&emulator, host(), &[]);
    run.upload().unwrap();
    let reports = run.host.progress_reports();
    assert!(reports.iter().all(|progress| progress.done <= progress.total));
    assert!(reports.iter().any(|progress| progress.done == LENGTH));
}

#[test]
fn keys_are_looked_up_once_for_all_steps_of_a_build() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("requests");
    let profile = directory.path().join("config.json");
    let text = json!({"current": "ci", "profiles": [{
        "name": "ci", "mode": "RamRoleArn", "access_key_id": "emulator-id",
        "access_key_secret": "emulator-secret",
        "ram_role_arn": "acs:ram::1000000000000001:role/emulator-role",
    }]});
    std::fs::write(&profile, text.to_string()).unwrap();
    let emulator = emulator_with(Config { log_requests: Some(log.clone()), ..Config::default() });
    let settings = [
        ("ALIBABA_CONFIG_FILE", json!(profile.to_str().unwrap())),
        ("ALIBABA_PROFILE", json!("ci")),
    ];
    let run = Run::new(&emulator, MockHost::new().with_disk(content()), &settings);
    run.check();
    run.register(run.upload().unwrap()).unwrap();
    let resources = run.host.resources();
    let request = DiscardRequest::new(DiscardReason::default(), resources);
    assert!(run.provider.discard(&run.context, &request).unwrap().remaining.is_empty());
    assert_eq!(calls(&log, "AssumeRole"), 1);
}
