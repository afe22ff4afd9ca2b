//! Tests a bad network, a failing service, and a failing task: what is tolerated and what is reported.

use build_image_emulator_alibaba::Config;
use build_image_plugin_api::ErrorKind;
use serde_json::{Value, json};

use crate::harness::{LENGTH, PART, Run, calls, count, emulator, emulator_with, host};

fn upload_under(faults: &Value, extra: &[(&str, Value)]) -> u64 {
    let emulator = emulator();
    emulator.set_faults(&faults.to_string()).unwrap();
    let run = Run::new(&emulator, host(), extra);
    let uploaded = run.upload().unwrap();
    assert_eq!((count(&emulator, "objects"), count(&emulator, "open_uploads")), (1, 0));
    uploaded.bytes_sent
}

#[test]
fn a_part_that_arrives_damaged_is_sent_again() {
    let faults = json!([
        {"operation": "UploadPart", "part_number": 3, "nth": 1, "action": "corrupt_body"},
        {"operation": "UploadPart", "part_number": 7, "nth": 1, "action": "corrupt_body"},
    ]);
    assert_eq!(upload_under(&faults, &[]), LENGTH + 2 * PART);
}

#[test]
fn a_part_that_always_arrives_damaged_fails_with_both_checksums() {
    let emulator = emulator();
    let faults = r#"[{"operation":"UploadPart","part_number":3,"action":"corrupt_body"}]"#;
    emulator.set_faults(faults).unwrap();
    let error = Run::new(&emulator, host(), &[]).upload().unwrap_err();
    assert_eq!((error.kind, error.context("attempts")), (ErrorKind::Network, Some("3")));
    assert!(error.message.contains("part 3"), "{error}");
    assert_ne!(error.context("crc64_here"), error.context("crc64_there"));
}

#[test]
fn broken_connections_service_faults_and_throttling_are_tolerated() {
    let faults = json!([
        {"operation": "InitiateMultipartUpload", "nth": 1, "action": {"status": 500, "code": "InternalError"}},
        {"operation": "UploadPart", "part_number": 1, "nth": 1, "action": "reset_before"},
        {"operation": "UploadPart", "part_number": 2, "nth": 1, "action": "reset_after"},
        {"operation": "UploadPart", "part_number": 4, "nth": 1, "action": "throttle"},
        {"operation": "UploadPart", "part_number": 5, "nth": 1, "count": 2, "action": {"status": 503, "code": "ServiceUnavailable"}},
    ]);
    assert!(upload_under(&faults, &[]) >= LENGTH);
}

#[test]
fn a_stalled_part_is_given_up_and_sent_again() {
    let faults = json!([{"operation": "UploadPart", "part_number": 2, "nth": 1, "action": {"stall_ms": 60_000}}]);
    let stall = ("ALIBABA_UPLOAD_STALL_TIMEOUT", json!(1));
    assert!(upload_under(&faults, &[stall]) >= LENGTH);
}

#[test]
fn a_lost_answer_of_complete_is_looked_up() {
    for action in ["reset_after", "truncate_answer"] {
        let faults = json!([{"operation": "CompleteMultipartUpload", "nth": 1, "action": action}]);
        assert_eq!(upload_under(&faults, &[]), LENGTH, "{action}");
    }
}

#[test]
fn a_lost_answer_of_the_import_does_not_make_a_second_image() {
    let emulator = emulator();
    let faults = r#"[{"operation":"ImportImage","nth":1,"action":"reset_after"}]"#;
    emulator.set_faults(faults).unwrap();
    let run = Run::new(&emulator, host(), &[]);
    run.register(run.upload().unwrap()).unwrap();
    assert_eq!((count(&emulator, "images"), count(&emulator, "tasks")), (1, 1));
}

#[test]
fn a_task_that_finished_but_failed_is_a_failure_in_the_vendors_words() {
    let emulator = emulator();
    let fail = json!({"code": "InvalidImageFormat.Malformed", "message": "no disk at all", "finished": true});
    let faults = json!([{"operation": "ImportImage", "action": {"fail_task": fail}}]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let run = Run::new(&emulator, host(), &[]);
    let error = run.register(run.upload().unwrap()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidImage);
    assert_eq!(error.context("code"), Some("InvalidImageFormat.Malformed"));
    assert_eq!(error.causes, ["no disk at all"]);
    assert!(error.hint.is_some() && error.context("task_id").is_some(), "{error:?}");
}

#[test]
fn polling_outlives_faults_and_waits_for_the_image_itself() {
    let emulator = emulator();
    let faults = json!([
        {"operation": "DescribeTaskAttribute", "nth": 1, "count": 2, "action": "reset_before"},
        {"operation": "ImportImage", "action": {"keep_creating": 1}},
    ]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let run = Run::new(&emulator, host(), &[]);
    run.register(run.upload().unwrap()).unwrap();
}

/// Polls again at once, for up to a minute.
fn quick() -> [(&'static str, Value); 2] {
    [("ALIBABA_IMAGE_IMPORT_MONITOR_RETRY_DELAY", json!(0)), ("ALIBABA_IMPORT_TIMEOUT", json!(60))]
}

/// Rules that omit the image from nine lists, show it once, and so on; `times` over.
fn now_and_then_unlisted(times: u64) -> Vec<Value> {
    let burst = |number| json!({"operation": "DescribeImages", "nth": 10 * number + 1, "count": 9, "action": "unlisted"});
    (0..times).map(burst).collect()
}

#[test]
fn an_image_that_is_missing_in_lists_now_and_then_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let emulator = emulator_with(Config { log_requests: Some(log.clone()), ..Config::default() });
    let mut faults = now_and_then_unlisted(4);
    faults.push(json!({"operation": "ImportImage", "action": {"keep_creating": 4}}));
    emulator.set_faults(&Value::from(faults).to_string()).unwrap();
    let run = Run::new(&emulator, host(), &quick());
    run.register(run.upload().unwrap()).unwrap();
    // If they were consecutive, so many lists without the image would make it count as removed.
    assert!(calls(&log, "DescribeImages") > 40, "the image was there at once");
}

#[test]
fn an_image_that_is_in_no_list_any_more_is_an_error_soon() {
    let emulator = emulator();
    emulator.set_faults(r#"[{"operation":"DescribeImages","action":"unlisted"}]"#).unwrap();
    let run = Run::new(&emulator, host(), &quick());
    let error = run.register(run.upload().unwrap()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.message.contains("is not listed"), "{error}");
}

#[test]
fn an_import_that_exceeds_the_deadline_explains_how_to_continue() {
    let emulator = emulator();
    let faults = json!([{"operation": "ImportImage", "action": {"keep_creating": 3600}}]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let run = Run::new(&emulator, host(), &[("ALIBABA_IMPORT_TIMEOUT", json!(0))]);
    let error = run.register(run.upload().unwrap()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert!(error.hint.unwrap().contains("ALIBABA_IMPORT_TIMEOUT"));
}

#[test]
fn a_standstill_is_reported_with_its_reason_before_the_upload_fails() {
    let emulator = emulator();
    emulator.set_faults(r#"[{"operation":"UploadPart","action":{"stall_ms":600000}}]"#).unwrap();
    let settings =
        [("ALIBABA_UPLOAD_STALL_TIMEOUT", json!(1)), ("ALIBABA_UPLOAD_FILE_RETRY_COUNT", json!(2))];
    let run = Run::new(&emulator, host(), &settings);
    run.upload().unwrap_err();
    let warned = run.host.events().into_iter().filter_map(|event| match event {
        build_image_plugin_api::Event::Warning { text, .. } => Some(text),
        _ => None,
    });
    let warned: Vec<String> = warned.collect();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("no part of the disk has arrived"), "{warned:?}");
    assert!(warned[0].contains("nothing happened for 1 s"), "{warned:?}");
}
