//! Tests that interrupted runs are resumed.

use build_image_emulator_alibaba::Config;
use build_image_plugin_api::ErrorKind;
use serde_json::json;

use crate::harness::{LENGTH, PART, PARTS, Run, calls, count, emulator, emulator_with, host};

#[test]
fn a_resumed_upload_sends_only_what_is_missing_also_behind_gaps() {
    let emulator = emulator();
    let faults = r#"[{"operation":"UploadPart","part_number":4,"action":{"status":403,"code":"AccessDenied"}}]"#;
    emulator.set_faults(faults).unwrap();
    let first = Run::new(&emulator, host(), &[("ALIBABA_THREAD_COUNT", json!(11))]);
    let error = first.upload().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth);
    emulator.set_faults("[]").unwrap();
    let there = count(&emulator, "parts");
    assert!(there < PARTS);

    let again = host().with_checkpoints(first.host.checkpoints());
    let second = Run::new(&emulator, again, &[]);
    let uploaded = second.upload().unwrap();
    assert_eq!(uploaded.facts["object"], "build-image-run-1-mock.raw");
    assert!(uploaded.bytes_sent <= (PARTS - there) * PART);
    assert_eq!((count(&emulator, "objects"), count(&emulator, "open_uploads")), (1, 0));

    // A third attempt finds the object and sends nothing.
    let again = host().with_checkpoints(second.host.checkpoints());
    let third = Run::new(&emulator, again, &[]).upload().unwrap();
    assert_eq!((third.bytes_sent, third.facts), (0, uploaded.facts));
}

#[test]
fn parts_of_other_bytes_are_sent_again() {
    let emulator = emulator();
    let faults = r#"[{"operation":"CompleteMultipartUpload","action":{"status":403,"code":"AccessDenied"}}]"#;
    emulator.set_faults(faults).unwrap();
    let first = Run::new(&emulator, host(), &[]);
    first.upload().unwrap_err();
    emulator.set_faults("[]").unwrap();
    assert_eq!(count(&emulator, "parts"), PARTS);

    let mut changed = crate::harness::content();
    changed[5] ^= 1;
    let again = host().with_disk(changed).with_checkpoints(first.host.checkpoints());
    let uploaded = Run::new(&emulator, again, &[]).upload().unwrap();
    assert_eq!(uploaded.bytes_sent, PART);
}

#[test]
fn an_upload_that_vanished_is_started_again() {
    let emulator = emulator();
    let faults = r#"[{"operation":"CompleteMultipartUpload","action":{"status":403,"code":"AccessDenied"}}]"#;
    emulator.set_faults(faults).unwrap();
    let first = Run::new(&emulator, host(), &[]);
    first.upload().unwrap_err();
    emulator
        .set_faults(
            r#"[{"operation":"ListParts","nth":1,"action":{"status":404,"code":"NoSuchUpload"}}]"#,
        )
        .unwrap();
    let again = host().with_checkpoints(first.host.checkpoints());
    let uploaded = Run::new(&emulator, again, &[]).upload().unwrap();
    assert_eq!(uploaded.bytes_sent, LENGTH);
    // The stray upload of the first attempt was aborted.
    assert_eq!(count(&emulator, "open_uploads"), 0);
}

#[test]
fn a_cancelled_upload_ends_at_once_and_can_be_resumed() {
    let emulator = emulator();
    let first = Run::new(&emulator, host().cancel_after_reads(6), &[]);
    let error = first.upload().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cancelled);
    let again = host().with_checkpoints(first.host.checkpoints());
    Run::new(&emulator, again, &[]).upload().unwrap();
    assert_eq!((count(&emulator, "objects"), count(&emulator, "open_uploads")), (1, 0));
}

#[test]
fn a_resumed_import_continues_with_its_task() {
    let emulator = emulator();
    let faults = json!([{"operation": "DescribeTaskAttribute", "action": {"status": 403, "code": "Forbidden.RAM"}}]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let first = Run::new(&emulator, host(), &[]);
    let uploaded = first.upload().unwrap();
    let error = first.register(uploaded.clone()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth);
    emulator.set_faults("[]").unwrap();

    let again = host().with_checkpoints(first.host.checkpoints());
    let registered = Run::new(&emulator, again, &[]).register(uploaded).unwrap();
    assert_eq!(Some(registered.images[0].id.as_str()), error.context("image_id"));
    assert_eq!((count(&emulator, "images"), count(&emulator, "tasks")), (1, 1));
}

#[test]
fn an_image_whose_id_was_never_learned_is_found_by_its_object() {
    let emulator = emulator();
    let first = Run::new(&emulator, host(), &[]);
    let uploaded = first.upload().unwrap();
    let registered = first.register(uploaded.clone()).unwrap();
    // Killed between the import and recording its answer.
    let mut checkpoints = first.host.checkpoints();
    let import = checkpoints.get_mut("import").unwrap();
    import["image_id"] = json!(null);
    import["task_id"] = json!(null);
    let again = Run::new(&emulator, host().with_checkpoints(checkpoints), &[]);
    let found = again.register(uploaded).unwrap();
    assert_eq!(found.images[0].id, registered.images[0].id);
    assert_eq!(count(&emulator, "images"), 1);
}

#[test]
fn an_import_that_failed_is_replaced_by_a_new_one() {
    let emulator = emulator();
    let fail = json!({"code": "ImportImageFailed", "message": "bad luck"});
    let faults = json!([{"operation": "ImportImage", "nth": 1, "action": {"fail_task": fail}}]);
    emulator.set_faults(&faults.to_string()).unwrap();
    let first = Run::new(&emulator, host(), &[]);
    let uploaded = first.upload().unwrap();
    let failed = first.register(uploaded.clone()).unwrap_err();
    let again = host().with_checkpoints(first.host.checkpoints());
    let registered = Run::new(&emulator, again, &[]).register(uploaded).unwrap();
    assert_ne!(Some(registered.images[0].id.as_str()), failed.context("image_id"));
}

#[test]
fn an_upload_that_is_stopped_again_and_again_never_sends_a_finished_part_twice() {
    const ALL: usize = 205;
    const LANES: usize = 3;
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("requests");
    let emulator = emulator_with(Config { log_requests: Some(log.clone()), ..Config::default() });
    let disk: Vec<u8> = crate::harness::content()
        .into_iter()
        .cycle()
        .take(ALL * usize::try_from(PART).unwrap() - 7)
        .collect();
    let (mut checkpoints, mut stops, mut random) = (None, 0_usize, 7_u64);
    let uploaded = loop {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Existing parts are read once for their checksum; then some new ones are sent.
        let reads = count(&emulator, "parts") + 1 + (random >> 33) % 12;
        let mut host = host().with_disk(disk.clone());
        if stops < 50 {
            host = host.cancel_after_reads(reads);
        }
        if let Some(known) = checkpoints.take() {
            host = host.with_checkpoints(known);
        }
        let run = Run::new(&emulator, host, &[("ALIBABA_THREAD_COUNT", json!(LANES))]);
        match run.upload() {
            Ok(uploaded) => break uploaded,
            Err(error) => assert_eq!(error.kind, ErrorKind::Cancelled, "{error}"),
        }
        stops += 1;
        checkpoints = Some(run.host.checkpoints());
    };
    assert!(stops > 10, "{stops}");
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Xz, &disk);
    assert_eq!(uploaded.facts["crc64"], json!(crc.to_string()));
    assert_eq!((count(&emulator, "objects"), count(&emulator, "open_uploads")), (1, 0));
    let sent = calls(&log, "UploadPart");
    assert!(sent <= ALL + stops * LANES, "{sent} parts were sent in {stops} interrupted attempts");
    println!("{sent} parts sent for {ALL}, {stops} interruptions");
}
