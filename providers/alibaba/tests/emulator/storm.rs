//! Combines all faults in one run: the build succeeds and exactly one image exists.

use std::time::Duration;

use build_image_emulator_alibaba::{Account, Config, Stored};
use build_image_plugin_api::{
    Provider,
    document::{DiscardReason, DiscardRequest},
    testing::MockHost,
};
use serde_json::json;

use crate::harness::{LENGTH, Run, calls, content, count, emulator_with};

const ROLE: &str = "acs:ram::1000000000000001:role/emulator-role";

#[test]
fn a_run_through_a_storm_makes_exactly_one_image() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("requests");
    let profile = directory.path().join("config.json");
    let text = json!({"current": "ci", "profiles": [{
        "name": "ci", "mode": "RamRoleArn", "access_key_id": "emulator-id",
        "access_key_secret": "emulator-secret", "ram_role_arn": ROLE,
    }]});
    std::fs::write(&profile, text.to_string()).unwrap();
    let emulator = emulator_with(Config {
        import_time: Duration::from_millis(300),
        accounts: vec![Account::parse("emulator-id:emulator-secret").unwrap()],
        log_requests: Some(log.clone()),
        ..Config::default()
    });
    let faults = json!([
        {"operation": "CompleteMultipartUpload", "nth": 1, "action": "reset_after"},
        {"operation": "ImportImage", "nth": 1, "action": "reset_after"},
        {"operation": "UploadPart", "part_number": 3, "nth": 1, "action": "corrupt_body"},
        {"operation": "UploadPart", "part_number": 5, "nth": 1, "action": {"stall_ms": 120_000}},
        {"operation": "UploadPart", "nth": 6, "action": "expire_token"},
        {"operation": "UploadPart", "nth": 8, "count": 2, "action": "throttle"},
        {"operation": "DescribeTaskAttribute", "nth": 1, "action": "expire_token"},
        {"operation": "*", "probability": 0.05, "seed": 11, "action": "reset_before"},
        {"operation": "*", "probability": 0.05, "seed": 23, "action": {"status": 503, "code": "ServiceUnavailable"}},
    ]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let host = MockHost::new().with_disk(content());
    let run = Run::new(
        &emulator,
        host,
        &[
            ("ALIBABA_CONFIG_FILE", json!(profile.to_str().unwrap())),
            ("ALIBABA_PROFILE", json!("ci")),
            ("ALIBABA_UPLOAD_STALL_TIMEOUT", json!(1)),
            ("ALIBABA_UPLOAD_FILE_RETRY_COUNT", json!(9)),
            ("ALIBABA_UPLOAD_FILE_RETRY_DELAY", json!(1)),
            ("ALIBABA_THREAD_COUNT", json!(8)),
            ("ALIBABA_IMAGE_COPY_REGIONS", json!(["cn-shanghai"])),
        ],
    );
    let uploaded = run.upload().unwrap();
    assert_eq!(uploaded.facts["size"], json!(LENGTH));
    let registered = run.register(uploaded).unwrap();
    assert_eq!(registered.images.len(), 2);
    let intermediate = run.host.resources().into_iter().filter(|resource| !resource.deliverable);
    let request = DiscardRequest::new(DiscardReason::default(), intermediate);
    let discarded = run.provider.discard(&run.context, &request).unwrap();
    assert!(discarded.remaining.is_empty(), "{discarded:?}");

    for (what, expected) in [("images", 2), ("tasks", 1), ("open_uploads", 0), ("objects", 0)] {
        assert_eq!(count(&emulator, what), expected, "{what}");
    }
    let stored = Stored::open(emulator.state_dir()).unwrap();
    let home: Vec<_> =
        stored.images().into_iter().filter(|image| image.region == "cn-hangzhou").collect();
    assert_eq!(home.len(), 1);
    let copy = directory.path().join("copy.raw");
    stored.export(&home[0].id, &copy).unwrap();
    assert!(std::fs::read(copy).unwrap().starts_with(&content()));
    // The keys were fetched again after the token was reported as expired.
    assert!(calls(&log, "AssumeRole") >= 2, "{}", calls(&log, "AssumeRole"));
}
